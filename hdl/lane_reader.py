"""One lane's own stream: header batches and codes in, whole slices out."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from ..formats import StreamLayout
from .parameters import EngineParameters
from .sequencer import slice_layout
from .word_queue import WordQueue

__all__ = ["LaneReader", "header_layout", "program_layout"]


def header_layout(layout: StreamLayout) -> data.StructLayout:
    """Return what a record header says as a structure; scales are signed.

    Scales beyond the format's own mean nothing; the zero-point is 0 where it has none.
    """
    return data.StructLayout({
        "format": layout.format_width,
        **{f"scale_{index}": signed(layout.scale_width + 1) for index in range(layout.scale_count)},
        "zero": layout.zero_width,
    })


def program_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what all lanes must know of a layer: last numbers, counted from 0."""
    layout = parameters.layout
    return data.StructLayout({
        "row_bank": 1,
        "block": parameters.row_address_width - 1,
        "tile": range(layout.max_tiles),
        "segment_slice": range(layout.tile_slices),  # of a full segment
        "tile_slice": range(layout.tile_slices),  # of the last tile
        "span_tile": range(layout.max_tiles),  # of a full span
    })


class LaneReader(wiring.Component):
    """Reads the words of one lane, as ``docs/weight-stream.md`` has them, at its own pace.

    Words wait in a queue of ``ahead``, from which one is taken a cycle as long as slices are taken
    as fast as they complete; some complete slices wait, so that header batches cost no step. What
    comes after the last record of a span is padding.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    word : :py:`In(width)`
        The lane's bits of a beat.
    ends_span : :py:`In(1)`
        It is the last of a span.
    push : :py:`In(1)`
        Take it; only while ``room`` is set.
    room : :py:`Out(1)`
        Whether a word can be taken.
    start : :py:`In(1)`
        A layer's words begin.
    program : :py:`In(program_layout(parameters))`
        Shape of the layer; steady from ``start`` on.
    filled : :py:`In(2)`
        Bit ``b``: bank ``b`` of the activations holds a tile.
    release : :py:`In(2)`
        Bit ``b``: it will hold another one when ``filled`` is set the next time.
    slice : :py:`Out(slice_layout(parameters))`
        The slice that has waited longest.
    slice_valid, slice_ready
        Its handshake.
    codes : :py:`Out(data.ArrayLayout(width, max_code_width))`
        Codes of the slice taken last.
    header : :py:`Out(header_layout(layout))`
        Its record's.
    unknown : :py:`Out(1)`
        The record at hand names no format, or the one scale that has no negative.
    taking : :py:`Out(1)`
        A word is taken out of the queue.
    done : :py:`Out(1)`
        No record is left.
    cut_short : :py:`Out(1)`
        A span has ended before its last record.
    """

    word: Signal
    ends_span: Signal
    push: Signal
    room: Signal
    start: Signal
    program: data.View
    filled: Signal
    release: Signal
    slice: data.View
    slice_valid: Signal
    slice_ready: Signal
    codes: data.View
    header: data.View
    unknown: Signal
    taking: Signal
    done: Signal
    cut_short: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "word": In(layout.width),
            "ends_span": In(1),
            "push": In(1),
            "room": Out(1),
            "start": In(1),
            "program": In(program_layout(parameters)),
            "filled": In(2),
            "release": In(2),
            "slice": Out(slice_layout(parameters)),
            "slice_valid": Out(1),
            "slice_ready": In(1),
            "codes": Out(data.ArrayLayout(layout.width, layout.max_code_width)),
            "header": Out(header_layout(layout)),
            "unknown": Out(1),
            "taking": Out(1),
            "done": Out(1),
            "cut_short": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.layout
        depth = layout.ahead
        m.submodules.words = words = WordQueue(width=layout.width + 1, depth=depth)
        word, ends_span = words.r_data[:-1], words.r_data[-1]
        self._declare()

        m.d.comb += [
            words.w_data.eq(Cat(self.word, self.ends_span)),
            words.w_en.eq(self.push),
            self.room.eq(words.w_rdy),
            words.r_en.eq(self._take),
            self.taking.eq(self._take),
            self.cut_short.eq(self._take & ends_span & ~self._may_end),
        ]
        # Steps may go on in a bank whose slices are all collected: it is not ready once more.
        m.d.sync += self._collected.eq((self._collected & ~self.release) | self._tile_collected)
        self._keep_headers(m, word)
        self._keep_codes(m, word)
        layer_read, program = Signal(), self.program
        with m.FSM():
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.d.sync += layer_read.eq(0)
                with m.If(self.start):
                    m.d.sync += [
                        self._last_block.eq(program.block == 0),
                        self._last_tile.eq(program.tile == 0),
                        self._last_of_span.eq((program.tile == 0) | (program.span_tile == 0)),
                        self._tile_last.eq(self._last_slice(program.tile == 0)),
                    ]
                    m.next = "FIRST_BATCH"
            with m.State("FIRST_BATCH"):
                m.d.comb += [self._take.eq(words.r_rdy), self._is_batch.eq(1)]
                with m.If(self._batch_ends):
                    m.next = "FIRST_HEADER"
            with m.State("FIRST_HEADER"):
                m.d.comb += self._load.eq(1)
                m.d.sync += self._slot.eq(0)
                m.next = "CODES"
            with m.State("CODES"):
                ends_layer = self._read_codes(m, words.r_rdy)
                m.d.sync += layer_read.eq(ends_layer)
                with m.If(self._may_end & ~ends_span):
                    m.next = "PADDING"
                with m.Elif(ends_layer):
                    m.next = "DONE"
            with m.State("PADDING"):
                m.d.comb += [self._take.eq(words.r_rdy), self._may_end.eq(1)]
                with m.If(self._take & ends_span):
                    m.next = "CODES"
                    with m.If(layer_read):
                        m.next = "DONE"

        return m

    def _declare(self) -> None:
        """Name the registers and wires that several parts share."""
        layout = self.parameters.layout
        batch_beats, slots = layout.batch_shape
        self._take = Signal()
        self._may_end = Signal()  # the span's last record is complete
        self._is_batch = Signal()  # the word at hand belongs to a header batch
        self._batch_ends = Signal()
        self._part = Signal(range(batch_beats))
        self._load = Signal()  # take up the header ...
        self._following = Signal(range(slots))  # ... from this slot of the batch on
        self._slot = Signal(range(slots))  # first one of the header at hand
        self._slots = Signal(range(layout.max_slots + 1))  # that it takes
        self._after = Signal(range(slots + 1))  # where the next one begins, if it fits
        self._next_slots = Signal(range(layout.max_slots + 1))  # that the next one takes
        self._raw_header = Signal(layout.header_width, reset_less=True)
        self._last_bit = Signal(range(layout.max_code_width))
        self._last_step = Signal(range(self.parameters.max_cycles))
        self._bit = Signal(range(layout.max_code_width))
        self._reading = Signal()  # the header is that of a record at hand
        self._code_taken = Signal()
        self._completes = Signal()
        self._slice_room = Signal()
        self._collected = Signal(2)  # banks whose slices have all been collected
        self._tile_collected = Signal(2)  # ... just now
        self._last_block = Signal()  # the block at hand is the tile's last
        self._last_tile = Signal()  # the tile at hand is the layer's last
        self._last_of_span = Signal()  # ... the span's
        self._tile_last = Signal.like(self.program.tile_slice)  # number of its last slice
        self._described = Signal(slice_layout(self.parameters))  # the slice that completes

    # -- headers -----------------------------------------------------------------------------------

    def _keep_headers(self, m: Module, word: Value) -> None:
        """Keep header batches; take up the header of each record and look its format up."""
        layout = self.parameters.layout
        batch_beats, slots = layout.batch_shape
        raw = self._raw_header
        batch = Signal(batch_beats * layout.width, reset_less=True)
        batch_taken = self._take & self._is_batch
        m.d.comb += self._batch_ends.eq(batch_taken & (self._part == batch_beats - 1))
        with m.If(batch_taken):
            m.d.sync += self._part.eq(Mux(self._batch_ends, 0, self._part + 1))
            for part in range(batch_beats):
                with m.If(self._part == part):
                    m.d.sync += batch.word_select(part, layout.width).eq(word)
        with m.If(self._load), m.Switch(self._following):
            for slot in range(slots):
                with m.Case(slot):
                    m.d.sync += raw.eq(batch[slot * layout.slot_width :])
        self._look_ahead(m, batch)

        refused = Signal()
        header = _read_header(m, layout, raw)
        with m.Switch(header.format):
            for index, item in enumerate(layout.members):
                with m.Case(index):
                    m.d.comb += self._last_bit.eq(item.code_width - 1)
                    m.d.comb += self._last_step.eq(self.parameters.member_cycles[index] - 1)
                    m.d.comb += self._slots.eq(layout.header_slots[index])
                    # Widths are derived for magnitudes below 2^scale_width; this one is over them.
                    lowest = -(1 << layout.scale_width)
                    scales = [header[f"scale_{scale}"] for scale in range(item.scale_count)]
                    m.d.comb += refused.eq(Cat(scale == lowest for scale in scales).any())
            with m.Default():
                m.d.comb += refused.eq(1)
        m.d.comb += self.unknown.eq(refused & self._reading)

    def _look_ahead(self, m: Module, batch: Value) -> None:
        """Look up how long the next header is: its format is there even if the rest is not.

        Where no slot is left there is no format either; any length is too much then.
        """
        layout = self.parameters.layout
        m.d.comb += self._after.eq(self._slot + self._slots)
        m.d.comb += self._next_slots.eq(1)
        if layout.max_slots > 1:
            number = Signal(layout.format_width)
            with m.Switch(self._after):
                for slot in range(layout.batch_shape[1]):
                    with m.Case(slot):
                        m.d.comb += number.eq(batch[slot * layout.slot_width :])
            with m.Switch(number):
                for index, slots in enumerate(layout.header_slots):
                    with m.Case(index):
                        m.d.comb += self._next_slots.eq(slots)

    def _last_slice(self, last_tile: Value) -> Value:
        """Return the number of a tile's last slice."""
        return Mux(last_tile, self.program.tile_slice, self.parameters.layout.tile_slices - 1)

    # -- codes -------------------------------------------------------------------------------------

    def _keep_codes(self, m: Module, word: Value) -> None:
        """Keep code bits until a slice is complete, let it wait, and hand it on."""
        layout = self.parameters.layout
        complete = Signal(
            data.StructLayout({
                "codes": self.codes.shape(),
                "header": layout.header_width,
                "slice": self.slice.shape(),
            })
        )
        waiting = Signal.like(complete)
        m.submodules.slices = slices = fifo.SyncFIFO(
            width=len(Value.cast(complete)), depth=self.parameters.slices_ahead
        )
        widths = {item.code_width for item in layout.members}
        for bit in range(layout.max_code_width):
            kept = Signal(layout.width, name=f"code_{bit}", reset_less=True)
            now = self._bit == bit
            with m.If(self._code_taken & now):
                m.d.sync += kept.eq(word)
            # The last bits of a slice are those at hand; a choice only where widths differ.
            if bit + 1 == layout.max_code_width:
                m.d.comb += complete.codes[bit].eq(word)
            elif bit + 1 in widths:
                m.d.comb += complete.codes[bit].eq(Mux(now, word, kept))
            else:
                m.d.comb += complete.codes[bit].eq(kept)
        m.d.comb += [
            complete.header.eq(self._raw_header),
            complete.slice.eq(self._described),
            self._slice_room.eq(slices.w_rdy),
            slices.w_data.eq(complete),
            slices.w_en.eq(self._completes),
            slices.r_en.eq(self.slice_ready),
            waiting.eq(slices.r_data),
            self.slice.eq(waiting.slice),
            self.slice_valid.eq(slices.r_rdy),
        ]
        header = Signal(layout.header_width, reset_less=True)
        with m.If(self.slice_valid & self.slice_ready):
            m.d.sync += self.codes.eq(waiting.codes)
            m.d.sync += header.eq(waiting.header)
        m.d.comb += self.header.eq(_read_header(m, layout, header))

    def _read_codes(self, m: Module, available: Value) -> Value:
        """Take code words, with a header batch in between where one is due.

        Returns
        -------
        Value
            Whether the layer's last record is complete.
        """
        layout = self.parameters.layout
        program = self.program
        block, tile = Signal.like(program.block), Signal.like(program.tile)
        span_tile = Signal.like(program.span_tile)
        tile_slice, segment_slice = Signal.like(program.tile_slice), Signal.like(program.tile_slice)
        bank, batch_begun, batch_done = Signal(), Signal(), Signal()
        last_block, last_tile, last_of_span = self._last_block, self._last_tile, self._last_of_span
        tile_last = self._tile_last
        ends_record, ends_row, ends_tile, ends_layer = Signal(), Signal(), Signal(), Signal()
        last_of_batch, last_record = Signal(), Signal()
        m.d.comb += [
            ends_row.eq(tile_slice == tile_last),
            ends_record.eq(ends_row | (segment_slice == program.segment_slice)),
            ends_tile.eq(ends_row & last_block),
            ends_layer.eq(ends_tile & last_tile),
            last_of_batch.eq(
                batch_begun | (self._after + self._next_slots > layout.batch_shape[1])
            ),
            last_record.eq(
                last_tile & last_block & (tile_slice + program.segment_slice >= tile_last)
            ),
        ]
        # The batch of the next record's header comes before the codes of this one.
        batch_due, last_word, tile_ready = Signal(), Signal(), Signal()
        m.d.comb += [
            batch_due.eq(
                (self._bit == 0) & (segment_slice == 0) & last_of_batch & ~batch_done & ~last_record
            ),
            last_word.eq((self._bit == self._last_bit) & ~batch_due),
            self._reading.eq(1),
            self._is_batch.eq(batch_due),
            tile_ready.eq((self.filled & ~self._collected).bit_select(bank, 1)),
            self._completes.eq(available & last_word & tile_ready & self._slice_room),
            self._take.eq(Mux(last_word, self._completes, available)),
            self._may_end.eq(self._completes & ends_tile & last_of_span),
            self._code_taken.eq(self._take & ~batch_due),
            self._described.slice.eq(Cat(tile_slice[: len(self._described.slice) - 1], bank)),
            self._described.row.eq(Cat(block, program.row_bank)),
            self._described.first.eq(segment_slice == 0),
            self._described.last.eq(ends_record),
            self._described.clear.eq((tile == 0) & (tile_slice == segment_slice)),
            self._described.tile_end.eq(ends_tile),
            self._described.last_step.eq(self._last_step),
            self._following.eq(Mux(last_of_batch, 0, self._after)),
        ]
        with m.If(self._take & batch_due):
            m.d.sync += [batch_begun.eq(1), batch_done.eq(self._batch_ends)]
        with m.If(self._code_taken):
            m.d.sync += self._bit.eq(self._bit + 1)
        with m.If(self._completes):
            m.d.sync += self._bit.eq(0)
            m.d.sync += segment_slice.eq(Mux(ends_record, 0, segment_slice + 1))
            m.d.sync += tile_slice.eq(Mux(ends_row, 0, tile_slice + 1))
            with m.If(ends_record):
                m.d.comb += self._load.eq(1)
                m.d.sync += [self._slot.eq(self._following), batch_begun.eq(0), batch_done.eq(0)]
            with m.If(ends_row):
                # Whether a number is the last is known as soon as the number is.
                next_block = Mux(last_block, 0, block + 1)
                m.d.sync += [block.eq(next_block), last_block.eq(next_block == program.block)]
            with m.If(ends_tile):
                next_tile = Mux(last_tile, 0, tile + 1)
                next_of_span = Mux(last_of_span, 0, span_tile + 1)
                is_last = next_tile == program.tile
                m.d.sync += [
                    tile.eq(next_tile),
                    last_tile.eq(is_last),
                    tile_last.eq(self._last_slice(is_last)),
                    span_tile.eq(next_of_span),
                    last_of_span.eq(is_last | (next_of_span == program.span_tile)),
                    bank.eq(~bank),
                ]
                m.d.comb += self._tile_collected.eq(1 << bank)
        return self._completes & ends_layer


def _read_header(m: Module, layout: StreamLayout, raw: Value) -> data.View:
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
