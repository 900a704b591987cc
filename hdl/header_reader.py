"""Record headers of one lane: batches in, one header at a time out, what it means included."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..formats import StreamLayout
from .choose import choose
from .parameters import EngineParameters
from .pipeline import delay

__all__ = ["HeaderReader", "header_layout", "read_header"]


def header_layout(layout: StreamLayout) -> data.StructLayout:
    """Return what a record header says as a structure; scales are signed.

    Scales beyond the format's own mean nothing; the zero-point is 0 where it has none.
    """
    return data.StructLayout({
        "format": layout.format_width,
        **{f"scale_{index}": signed(layout.scale_width + 1) for index in range(layout.scale_count)},
        "zero": layout.zero_width,
    })


def read_header(m: Module, layout: StreamLayout, raw: Value) -> data.View:
    """Find what a header says; where its zero-point is depends on how many scales it has."""
    header = Signal(header_layout(layout))
    scales, scale_width = layout.format_width, layout.scale_width + 1
    number = Signal(layout.format_width)
    m.d.comb += [number.eq(raw), header.format.eq(number)]
    for index in range(layout.scale_count):
        m.d.comb += header[f"scale_{index}"].eq(raw[scales + index * scale_width :])
    # Not of the structure itself, part of which the cases write: as Verilog that is a loop.
    with m.Switch(number):
        for index, item in enumerate(layout.members):
            if item.has_zero_point:
                zero = scales + item.scale_count * scale_width
                with m.Case(index):
                    m.d.comb += header.zero.eq(raw[zero : zero + item.code_width])
    return header


class HeaderReader(wiring.Component):
    """Keeps a batch of headers and hands them out one after another.

    What the upcoming header's format means is looked up before that is taken up, so that nothing on
    which the taking of a word depends begins with a header. It is known two cycles after the header
    before was taken up or its batch was complete: later than wanted only for records of one word.
    With a single format there is nothing to look up.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    begin : :py:`In(1)`
        A layer's first batch comes.
    word : :py:`In(width)`
        A word of the lane.
    take : :py:`In(1)`
        It is the next of a batch.
    batch_ends : :py:`Out(1)`
        And that batch's last.
    load : :py:`In(1)`
        Take up the upcoming header; only while ``settled`` is set.
    settled : :py:`Out(1)`
        What it means is known.
    raw : :py:`Out(header_width)`
        Header taken up last.
    refused : :py:`Out(1)`
        It names no format, or the one scale that has no negative.
    last_bit : :py:`Out(range(max_code_width))`
        Its format's highest code bit ...
    last_step : :py:`Out(range(max_cycles))`
        ... and last cycle of a slice.
    upcoming_last_bit : :py:`Out(range(max_code_width))`
        Highest code bit of the upcoming one's; while ``settled`` is set.
    batch_wanted : :py:`Out(1)`
        The header taken up last is the last of its batch that is there as a whole, and the next
        batch has not come.
    """

    begin: Signal
    word: Signal
    take: Signal
    batch_ends: Signal
    load: Signal
    settled: Signal
    raw: Signal
    refused: Signal
    last_bit: Signal
    last_step: Signal
    upcoming_last_bit: Signal
    batch_wanted: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "begin": In(1),
            "word": In(layout.width),
            "take": In(1),
            "batch_ends": Out(1),
            "load": In(1),
            "settled": Out(1),
            "raw": Out(layout.header_width),
            "refused": Out(1),
            "last_bit": Out(range(layout.max_code_width)),
            "last_step": Out(range(parameters.max_cycles)),
            "upcoming_last_bit": Out(range(layout.max_code_width)),
            "batch_wanted": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.layout
        beats, slots = layout.batch_shape
        batch = Signal(beats * layout.width, reset_less=True)
        raw = Signal(layout.header_width, reset_less=True)
        # What would stand for a format in each slot from the upcoming header's on, to look at
        # without a choice among slots.
        formats = Signal(data.ArrayLayout(layout.format_width, slots), reset_less=True)
        part = Signal(range(beats))
        m.d.comb += [self.batch_ends.eq(self.take & (part == beats - 1)), self.raw.eq(raw)]
        with m.If(self.take):
            m.d.sync += part.eq(Mux(self.batch_ends, 0, part + 1))
            with m.Switch(part):
                for index in range(beats):
                    with m.Case(index):
                        m.d.sync += batch.word_select(index, layout.width).eq(self.word)

        upcoming = Signal(range(slots))  # where the upcoming header stands
        left = Signal(range(slots + 1), init=slots)  # slots from there on
        meaning = self._look_up(m, formats[0], upcoming, left)
        fits = Signal()  # the header after that, too
        m.d.comb += self.upcoming_last_bit.eq(meaning.last_bit)
        with m.If(self.batch_ends):
            m.d.sync += self.batch_wanted.eq(0)
        with m.If(self.load):
            m.d.sync += [
                self.last_bit.eq(meaning.last_bit),
                self.last_step.eq(meaning.last_step),
                self.batch_wanted.eq(~fits),
                upcoming.eq(Mux(fits, meaning.after, 0)),
                left.eq(Mux(fits, meaning.left, slots)),
            ]
            headers = [batch[slot * layout.slot_width :][: len(raw)] for slot in range(slots)]
            m.d.sync += raw.eq(choose(headers, upcoming))
        with m.If(self.begin):
            m.d.sync += [upcoming.eq(0), left.eq(slots)]
        behind = self._behind(m, formats, meaning.slots)
        self._keep_formats(m, formats, behind, part)
        m.d.comb += fits.eq(self._slots_of(m, behind[0]) <= meaning.left)
        self._refuse(m, raw)
        return m

    def _keep_formats(self, m: Module, formats: data.View, behind: data.View, part: Signal) -> None:
        """Keep what stands for formats in a word of the batch; go on to those behind a header."""
        layout = self.parameters.layout
        for slot in range(layout.batch_shape[1]):
            for bit in range(layout.format_width):
                word, place = divmod(slot * layout.slot_width + bit, layout.width)
                # One enable for both, never at once: then the choice is all that takes a LUT.
                with m.If(self.load | (self.take & (part == word))):
                    m.d.sync += formats[slot][bit].eq(
                        Mux(self.load, behind[slot][bit], self.word[place])
                    )

    def _look_up(self, m: Module, number: Value, slot: Value, left: Value) -> data.View:
        """Look up the upcoming header's format, and what is behind a header of it."""
        layout = self.parameters.layout
        several = len(layout.members) > 1
        found = Signal(
            data.StructLayout({
                "last_bit": self.last_bit.shape(),
                "last_step": self.last_step.shape(),
                "slots": range(layout.max_slots + 1),
                "after": slot.shape(),
                "left": left.shape(),
            })
        )
        with m.Switch(number):
            for index, item in enumerate(layout.members):
                slots = layout.header_slots[index]
                with m.Case(index):
                    m.d.comb += [
                        found.last_bit.eq(item.code_width - 1),
                        found.last_step.eq(self.parameters.member_cycles[index] - 1),
                        found.slots.eq(slots),
                        found.after.eq(slot + slots),
                        found.left.eq(left - slots),
                    ]
        if several:
            m.d.sync += self.settled.eq(~self.load & ~self.batch_ends)
        else:
            m.d.comb += self.settled.eq(1)
        return data.View(found.shape(), delay(m, found, int(several), name="meaning"))

    def _behind(self, m: Module, formats: data.View, slots: Value) -> data.View:
        """Return the formats from the header behind the upcoming one on, which has ``slots``."""
        behind = Signal.like(formats)
        counts = sorted(set(self.parameters.layout.header_slots))
        with m.Switch(slots):
            for count in counts:
                with m.Default() if count == counts[-1] else m.Case(count):
                    bits = count * self.parameters.layout.format_width
                    m.d.comb += behind.eq(Value.cast(formats)[bits:])
        return behind

    def _slots_of(self, m: Module, number: Value) -> Value:
        """Look up the slots of a header of that format.

        Of a header that did not fit its format is there all the same. Where no slot is left there
        is none; any length is too much then.
        """
        layout = self.parameters.layout
        found = Signal(range(layout.max_slots + 1), init=1)
        with m.Switch(number):
            for index, count in enumerate(layout.header_slots):
                with m.Case(index):
                    m.d.comb += found.eq(count)
        return found

    def _refuse(self, m: Module, raw: Value) -> None:
        layout = self.parameters.layout
        header = read_header(m, layout, raw)
        with m.Switch(header.format):
            for index, item in enumerate(layout.members):
                with m.Case(index):
                    # Widths are derived for magnitudes below 2^scale_width; this one is over them.
                    lowest = -(1 << layout.scale_width)
                    scales = [header[f"scale_{scale}"] for scale in range(item.scale_count)]
                    m.d.comb += self.refused.eq(Cat(scale == lowest for scale in scales).any())
            with m.Default():
                m.d.comb += self.refused.eq(1)
