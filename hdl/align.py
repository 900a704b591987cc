"""Conversion of floating-point activations to integers on a shared exponent."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats import Numerics
from .floating import normalize, normalize_cycles, round_half_even, shift_right_sticky
from .pipeline import delay

__all__ = ["Align", "SharedExponent", "exponent_cycles", "exponent_width"]

_LEVELS = 2  # steps of normalising between two registers


def exponent_width(numerics: Numerics) -> int:
    """Bits of a token's exponent, sign included; also of an exponent with its bias."""
    return numerics.float_type.exponent_width + 3 if numerics.is_float else 2


def exponent_cycles(numerics: Numerics) -> int:
    """Return the cycles from a token's largest magnitude to its exponent."""
    return normalize_cycles(numerics.float_type.fraction_width, levels=_LEVELS) + 2


class SharedExponent(wiring.Component):
    """Exponent of a token from its largest magnitude.

    Latency is :func:`exponent_cycles`, throughput is one token a cycle, no backpressure.

    Parameters
    ----------
    numerics : Numerics
        Floating-point activations.

    Members
    -------
    peak : :py:`In(element_width - 1)`
        Largest magnitude of the token, sign bit left off; bit patterns order as magnitudes do.
    biased : :py:`Out(signed(exponent_width(numerics)))`
        Exponent of the peak as a field, below 1 for subnormals.
    exponent : :py:`Out(signed(exponent_width(numerics)))`
        Power of two of one step: 0 for an all-zero token, constant where activations are exact.
    nonfinite : :py:`Out(1)`
        Whether the token holds an infinity or a NaN.
    """

    peak: Signal
    biased: Signal
    exponent: Signal
    nonfinite: Signal

    def __init__(self, *, numerics: Numerics) -> None:
        self.numerics = numerics
        width = signed(exponent_width(numerics))
        super().__init__({
            "peak": In(numerics.element_width - 1),
            "biased": Out(width),
            "exponent": Out(width),
            "nonfinite": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kind, bias = self.numerics.float_type, self.numerics.float_type.bias
        fraction, field = self.peak[: kind.fraction_width], self.peak[kind.fraction_width :]

        cycles = exponent_cycles(self.numerics)
        _, zeros = normalize(m, fraction, name="fraction", levels=_LEVELS)
        zeros = delay(m, zeros, 1, name="zeros")
        is_zero = delay(m, self.peak == 0, cycles, name="is_zero")
        field = delay(m, field, cycles - 1, name="field")
        m.d.sync += self.biased.eq(Mux(field == 0, -zeros, field))
        m.d.sync += self.nonfinite.eq(field == kind.exponent_mask)
        if self.numerics.is_exact:
            m.d.comb += self.exponent.eq(self.numerics.exact_exponent)
        else:
            offset = 2 - bias - self.numerics.aligned_width
            m.d.comb += self.exponent.eq(Mux(is_zero, 0, self.biased + offset))

        return m


class Align(wiring.Component):
    """One activation as an integer number of its token's steps.

    Rounds half to even and stays within ±(2^(act_width - 1) - 1). Latency is :attr:`LATENCY`
    cycles, throughput is one activation a cycle, no backpressure. Bit-exact with the golden model's
    alignment for finite tokens; non-finite elements give some number.

    Parameters
    ----------
    numerics : Numerics
        Floating-point activations.

    Members
    -------
    element : :py:`In(element_width)`
        The activation.
    biased : :py:`In(signed(exponent_width(numerics)))`
        The token's, from :class:`SharedExponent`.
    aligned : :py:`Out(signed(aligned_width))`
        The integer.
    """

    LATENCY = 6

    element: Signal
    biased: Signal
    aligned: Signal

    def __init__(self, *, numerics: Numerics) -> None:
        self.numerics = numerics
        super().__init__({
            "element": In(numerics.element_width),
            "biased": In(signed(exponent_width(numerics))),
            "aligned": Out(signed(numerics.aligned_width)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kind = self.numerics.float_type
        field = self.element[kind.fraction_width : -1]
        normal = field != 0
        significand = Cat(self.element[: kind.fraction_width], normal)
        significand = delay(m, significand, 1, name="significand")
        exponent = delay(m, Mux(normal, field, 1), 1, name="exponent")

        if self.numerics.is_exact:
            places = delay(m, (exponent - 1)[: len(field)], 2, name="places")
            significand = delay(m, significand, 2, name="significand_until")
            magnitude = delay(m, significand << places, 1, name="magnitude")
        else:
            magnitude = self._rounded(m, significand, exponent)
        negative = delay(m, self.element[-1], self.LATENCY - 1, name="negative")
        limited = Signal(self.numerics.aligned_width - 1, reset_less=True)
        m.d.sync += limited.eq(Mux(magnitude > self.numerics.peak, self.numerics.peak, magnitude))
        m.d.sync += self.aligned.eq(Mux(negative, -limited, limited))

        return m

    def _rounded(self, m: Module, significand: Value, exponent: Value) -> Value:
        """Magnitude in steps, three cycles later.

        A step is ``2^(fraction_width + 2 - act_width + d)`` units of the significand, ``d`` being
        the difference of exponents. In a subnormal token ``d`` is as low as ``-fraction_width``, so
        the significand is taken ``act_width - 2`` places up, then down by ``fraction_width + d``.
        """
        kind, act_width = self.numerics.float_type, self.numerics.aligned_width
        half_below = Cat(Const(0, act_width - 1), significand)  # one more place for the half
        most = len(half_below) + 1
        wanted = Signal(signed(exponent_width(self.numerics) + 1))
        places = Signal(range(most + 1))
        biased = delay(m, self.biased + kind.fraction_width, 1, name="biased").as_signed()
        m.d.comb += wanted.eq(biased - exponent)
        m.d.comb += places.eq(Mux(wanted > most, most, wanted))

        half_below = delay(m, half_below, 1, name="half_below")
        shifted, lost = shift_right_sticky(
            m, half_below, delay(m, places, 1, name="places"), name="shifted"
        )
        value = Signal(len(shifted), name="value", reset_less=True)
        sticky = Signal(name="sticky", reset_less=True)
        m.d.sync += value.eq(shifted)
        m.d.sync += sticky.eq(lost)
        return round_half_even(value[1:], value[0], sticky)
