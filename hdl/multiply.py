"""Group sum times group scale: two ways with one interface."""

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
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
        Product; held until the next one is under way.
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


class SerialMultiply(Multiply):
    """:class:`Multiply` by shift and add, highest scale bits first, several bits a cycle."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, cycles = self.parameters.multiply_bits, self.parameters.multiply_latency
        scale = Signal(signed(bits * cycles))
        m.d.comb += scale.eq(self.scale)
        top = scale[-bits:].as_signed()

        if cycles == 1:
            m.d.sync += self.product.eq(self._times(self.value, top))
            return m

        value = Signal.like(self.value, reset_less=True)
        rest = Signal(bits * (cycles - 1), reset_less=True)
        running = self._running(m, cycles)
        with m.If(self.start):
            m.d.sync += value.eq(self.value)
            m.d.sync += rest.eq(scale[:-bits])
            m.d.sync += self.product.eq(self._times(self.value, top))
        with m.Elif(running):
            m.d.sync += rest.eq(rest << bits)
            m.d.sync += self.product.eq((self.product << bits) + self._times(value, rest[-bits:]))
        return m

    def _running(self, m: Module, cycles: int) -> Value:
        """Whether scale bits are left of the pair that was started last."""
        left = Signal(range(cycles))
        with m.If(self.start):
            m.d.sync += left.eq(cycles - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return left != 0

    @staticmethod
    def _times(value: Value, digit: Value) -> Value:
        """Multiply by a digit of few bits; written as adders so that no DSP is inferred."""
        negative = digit.shape().signed
        total: Value = Mux(digit[0], value, 0)
        if negative and len(digit) == 1:
            return Mux(digit[0], -value, 0)
        for bit in range(1, len(digit)):
            part = Mux(digit[bit], value << bit, 0)
            total = total - part if negative and bit == len(digit) - 1 else total + part
        return total


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
