"""Activation vectors: received, kept for two tokens, and given back as aligned integers."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .align import Align, SharedExponent, exponent_cycles, exponent_width
from .parameters import EngineParameters
from .pipeline import delay

__all__ = [
    "ActivationStore",
    "activation_layout",
    "store_latency",
    "token_latency",
    "token_layout",
]

_PEAK_LEVELS = 1  # comparisons of a beat's elements between two registers


def activation_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return one beat of the activation stream: ``act_lanes`` elements, the first lowest."""
    return data.StructLayout({
        "elements": data.ArrayLayout(parameters.numerics.element_width, parameters.act_lanes),
        "last": 1,
    })


def token_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what is known of a token once it has been received."""
    return data.StructLayout({
        "beats": range(parameters.max_act_beats + 2),
        "used": range(
            parameters.act_lanes + 1
        ),  # of the last beat, up to its last non-zero element
        "biased": signed(exponent_width(parameters.numerics)),
        "exponent": signed(exponent_width(parameters.numerics)),
        "nonfinite": 1,
    })


def store_latency(parameters: EngineParameters) -> int:
    """Return the cycles from reading activations to their integers."""
    return 2 + (Align.LATENCY if parameters.numerics.is_float else 0)


def token_latency(parameters: EngineParameters) -> int:
    """Return the cycles from the last beat of a vector to when it is described."""
    if not parameters.numerics.is_float:
        return 2
    return _peak_cycles(parameters) + exponent_cycles(parameters.numerics) + 2


def _peak_cycles(parameters: EngineParameters) -> int:
    """Cycles from a beat to its largest magnitude."""
    return -(-(parameters.act_lanes - 1).bit_length() // _PEAK_LEVELS)


class ActivationStore(wiring.Component):
    """Buffer for two activation vectors that aligns on the way out.

    A token is received while the one before it is read. The shared exponent is known soon after the
    last beat has come, so alignment needs no second pass. Reading has a latency of :attr:`latency`
    cycles and a throughput of one beat a cycle; beats past the end of the vector read as zeros.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    i : :py:`In(stream.Signature(activation_layout(parameters)))`
        Activations; unused elements of the last beat are to be zero.
    occupied : :py:`Out(1)`
        Whether any beat is kept.
    ready : :py:`Out(1)`
        Whether ``token`` describes a token that may be read.
    token : :py:`Out(token_layout(parameters))`
        The oldest token.
    read : :py:`In(1)`
        Read beat ``read_beat`` of it.
    read_beat : :py:`In(range(max_act_beats + beats_of_slice))`
        Number of the beat.
    aligned : :py:`Out(data.ArrayLayout(signed(aligned_width), act_lanes))`
        Integers of the beat, later.
    aligned_valid : :py:`Out(1)`
        ``read`` of ``latency`` cycles ago.
    release : :py:`In(1)`
        The oldest token has been read.
    too_long : :py:`Out(1)`
        A vector has more beats than the engine was made for; sticks until reset.
    discard : :py:`In(1)`
        Accept and forget everything.
    """

    i: stream.Interface
    occupied: Signal
    ready: Signal
    token: data.View
    read: Signal
    read_beat: Signal
    aligned: data.View
    aligned_valid: Signal
    release: Signal
    too_long: Signal
    discard: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        aligned = data.ArrayLayout(signed(parameters.numerics.aligned_width), parameters.act_lanes)
        super().__init__({
            "i": In(stream.Signature(activation_layout(parameters))),
            "occupied": Out(1),
            "ready": Out(1),
            "token": Out(token_layout(parameters)),
            "read": In(1),
            "read_beat": In(range(parameters.max_act_beats + parameters.beats_of_slice)),
            "aligned": Out(aligned),
            "aligned_valid": Out(1),
            "release": In(1),
            "too_long": Out(1),
            "discard": In(1),
        })

    @property
    def latency(self) -> int:
        """Cycles from ``read`` to ``aligned``."""
        return store_latency(self.parameters)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        beat_bits = (parameters.max_act_beats - 1).bit_length()
        elements = activation_layout(parameters)["elements"].shape
        m.submodules.elements = store = memory.Memory(shape=elements, depth=2 << beat_bits, init=[])
        write, read = store.write_port(), store.read_port()
        fill_bank, read_bank = Signal(), Signal()
        full, known = Signal(2), Signal(2)
        count = Signal(range(parameters.max_act_beats + 1))
        tokens = [Signal(token_layout(parameters), name=f"token_{bank}") for bank in range(2)]

        # Receive into one bank.
        take, last = Signal(), self.i.payload.last
        m.d.comb += [
            self.i.ready.eq(~full.bit_select(fill_bank, 1) | self.discard),
            take.eq(self.i.valid & self.i.ready & ~self.discard),
            write.addr.eq(Cat(count[:beat_bits], fill_bank)),
            write.data.eq(self.i.payload.elements),
            write.en.eq(take),
        ]
        with m.If(take):
            m.d.sync += count.eq(Mux(last, 0, count + 1))
            with m.If(count == parameters.max_act_beats):
                m.d.sync += self.too_long.eq(1)
            with m.If(last):
                m.d.sync += fill_bank.eq(~fill_bank)
                m.d.sync += full.bit_select(fill_bank, 1).eq(1)

        # Describe the token some cycles after its last beat.
        cycles = token_latency(parameters) - 1
        described = self._describe(m, take, count, cycles)
        ended = delay(m, take & last, cycles, name="ended", control=True)
        ended_bank = delay(m, fill_bank, cycles, name="ended_bank")
        for bank in range(2):
            with m.If(ended & (ended_bank == bank)):
                m.d.sync += tokens[bank].eq(described)
                m.d.sync += known[bank].eq(1)

        # Show the oldest token and read it.
        m.d.comb += [
            self.occupied.eq(full.any() | (count != 0)),
            self.ready.eq(known.bit_select(read_bank, 1)),
            self.token.eq(Mux(read_bank, tokens[1], tokens[0])),
            read.addr.eq(Cat(self.read_beat[:beat_bits], read_bank)),
            self.aligned_valid.eq(delay(m, self.read, self.latency, name="read", control=True)),
        ]
        with m.If(self.release):
            m.d.sync += read_bank.eq(~read_bank)
            m.d.sync += full.bit_select(read_bank, 1).eq(0)
            m.d.sync += known.bit_select(read_bank, 1).eq(0)
        inside = delay(m, self.read_beat < self.token.beats, 1, name="inside")
        for lane in range(parameters.act_lanes):
            element = delay(m, Mux(inside, read.data[lane], 0), 1, name=f"element_{lane}")
            m.d.comb += self.aligned[lane].eq(self._aligned(m, lane, element))

        return m

    def _describe(self, m: Module, take: Value, count: Value, cycles: int) -> data.View:
        """Work out the description of the token that ended so many cycles ago."""
        described = Signal(token_layout(self.parameters))
        m.d.comb += described.beats.eq(delay(m, count + 1, cycles, name="beats"))
        m.d.comb += described.used.eq(delay(m, self._used(m), cycles, name="used"))
        if not self.parameters.numerics.is_float:
            return described

        largest = self._largest(m)
        until = _peak_cycles(self.parameters)
        begun = delay(m, count != 0, until, name="begun")
        m.submodules.shared = shared = SharedExponent(numerics=self.parameters.numerics)
        peak = Signal.like(shared.peak)
        with m.If(delay(m, take, until, name="peak_take", control=True)):
            # By the sign of a difference: Yosys makes more than a carry chain of a comparison here.
            lower = (Cat(largest, 0) - Cat(peak, 0))[len(peak)]
            m.d.sync += peak.eq(Mux(begun & lower, peak, largest))
        m.d.comb += [
            shared.peak.eq(peak),
            described.biased.eq(shared.biased),
            described.exponent.eq(shared.exponent),
            described.nonfinite.eq(shared.nonfinite),
        ]
        return described

    def _largest(self, m: Module) -> Value:
        """Find the largest magnitude of the beat at hand, by a tree with registers."""
        elements = self.i.payload.elements
        values: list[Value] = [elements[lane][:-1] for lane in range(self.parameters.act_lanes)]
        level = 0
        while len(values) > 1:
            pairs = [values[index : index + 2] for index in range(0, len(values), 2)]
            values = [Mux(p[0] > p[1], *p) if len(p) == 2 else p[0] for p in pairs]
            level += 1
            if level % _PEAK_LEVELS == 0 or len(values) == 1:
                values = [
                    delay(m, value, 1, name=f"largest_{level}_{index}")
                    for index, value in enumerate(values)
                ]
        return values[0]

    def _used(self, m: Module) -> Value:
        """Count the elements of the beat at hand up to its last non-zero one."""
        used = Signal(range(self.parameters.act_lanes + 1))
        for lane in range(self.parameters.act_lanes):
            element = self.i.payload.elements[lane]
            # The zero of a float has a sign, which does not count.
            with m.If(element[:-1].any() if self.parameters.numerics.is_float else element.any()):
                m.d.comb += used.eq(lane + 1)
        return used

    def _aligned(self, m: Module, lane: int, element: Value) -> Value:
        if not self.parameters.numerics.is_float:
            return element.as_signed()
        m.submodules[f"align_{lane}"] = align = Align(numerics=self.parameters.numerics)
        m.d.comb += align.element.eq(element)
        m.d.comb += align.biased.eq(self.token.biased)
        return align.aligned
