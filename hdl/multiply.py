"""Group sum times group scale: two ways with one interface."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .parameters import EngineParameters

__all__ = ["DspMultiply", "Multiply", "SerialMultiply", "multiply_for"]


class Multiply(wiring.Component):
    """Product of a group sum and a signed scale, wrapped to the width of a row sum.

    Latency is ``parameters.multiply_latency`` cycles; a new pair may start every
    ``parameters.multiply_interval`` cycles. No backpressure.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    start : :py:`In(1)`
        Take a pair in this cycle.
    value : :py:`In(signed(segment_width))`
        Group sum.
    scale : :py:`In(signed(scale_width + 1))`
        Group scale.
    product : :py:`Out(signed(sum_width))`
        Product, in that cycle only.
    """

    start: Signal
    value: Signal
    scale: Signal
    product: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "start": In(1),
            "value": In(signed(parameters.segment_width)),
            "scale": In(signed(parameters.layout.scale_width + 1)),
            "product": Out(signed(parameters.sum_width)),
        })


_DIGIT = data.StructLayout({"once": 1, "twice": 1, "negative": 1})
"""A digit of a scale, -2 to 2; what is negative may be 0, whose complement and a carry is 0."""


class SerialMultiply(Multiply):
    """:class:`Multiply` by shift and add, lowest bits of the scale first, two bits a digit.

    Digits are Booth's, -2 to 2, each told from its two bits and the one below: so that choosing a
    multiple, and adding it, fit into the one look-up table of a bit of an adder. What is complete
    of the product leaves the adder at its lower end, which keeps it as narrow as the group sum.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        digits, cycles = parameters.multiply_digits, parameters.multiply_interval
        loads = int(parameters.multiply_loads)
        bits = 2 * digits  # taken in a cycle
        value = Signal.like(self.value, reset_less=True)
        scale = Signal(signed(bits * cycles + loads))
        rest = Signal(bits * cycles + 1, reset_less=True)  # and the bit below
        following = Signal.like(rest)
        m.d.comb += scale.eq(self.scale)
        m.d.comb += following.eq(rest >> bits)
        m.d.sync += rest.eq(following)
        with m.If(self.start):
            m.d.comb += following.eq(Cat(Const(0, 1), scale[loads:]))
            m.d.sync += value.eq(self.value)

        # Less than a third of what one digit may add is left of it from cycle to cycle.
        width = len(value) + 2 * digits
        high = Signal(signed(len(value)), reset_less=True)
        total: Value = high
        for digit in range(digits):
            decoded = Signal(_DIGIT, name=f"digit_{digit}", reset_less=True)
            m.d.sync += decoded.eq(_read_digit(following[2 * digit :][:3]))
            total = _add_multiple(total, value, decoded, places=2 * digit)
        step = Signal(signed(width))
        m.d.comb += step.eq(total)
        m.d.sync += high.eq(step >> bits)
        low = Signal(bits * (cycles - 1) + loads, reset_less=True)
        m.d.sync += low.eq(Cat(low, step[:bits])[bits:])
        product = Signal.like(self.product, reset_less=True)
        m.d.sync += product.eq(Cat(low, step).as_signed())
        m.d.comb += self.product.eq(product)
        with m.If(self.start):
            first = Mux(scale[0], self.value, 0) if loads else Const(0)
            m.d.sync += high.eq(first >> 1)
            if loads:
                m.d.sync += low[-1].eq(first[0])
        return m


def _read_digit(bits: Value) -> Value:
    """Return what a digit stands for: :data:`_DIGIT`, from its two bits and the one below."""
    below, low, high = bits
    return Cat(below ^ low, ~(below ^ low) & (high ^ low), high)


def _add_multiple(total: Value, value: Value, digit: data.View, *, places: int) -> Value:
    """Add the multiple that a digit stands for, some places up."""
    magnitude = Mux(digit.once, value, Mux(digit.twice, value << 1, 0))
    multiple = (magnitude[:] ^ digit.negative.replicate(len(magnitude))).as_signed()
    # A sum of two, whose lowest bits carry the one that completes a negative number.
    upper = Cat(Const(1, 1), total[places:]).as_signed() + Cat(digit.negative, multiple).as_signed()
    return Cat(total[:places], upper[1:]).as_signed()


class DspMultiply(Multiply):
    """:class:`Multiply` as one registered product, for a synthesiser to map onto DSP blocks."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = Signal.like(self.value, reset_less=True)
        scale = Signal.like(self.scale, reset_less=True)
        m.d.sync += value.eq(self.value)
        m.d.sync += scale.eq(self.scale)
        m.d.sync += self.product.eq(value * scale)
        return m


def multiply_for(parameters: EngineParameters) -> SerialMultiply | DspMultiply:
    """Return the multiplier that the parameters name."""
    kind = DspMultiply if parameters.multiply == "dsp" else SerialMultiply
    return kind(parameters=parameters)
