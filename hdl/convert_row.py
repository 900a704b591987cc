"""One exact row sum to one floating-point number."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats import FLOATS
from ..formats.layout import ROW_SCALE_WIDTH
from .align import exponent_width
from .floating import normalize, round_half_even, shift_right_sticky
from .parameters import EngineParameters
from .pipeline import delay, registered_sum

__all__ = ["ConvertRow"]

_FLOAT32 = FLOATS["float32"]
_SIGNIFICAND = _FLOAT32.fraction_width + 1
_EXPONENT = signed(12)  # of any intermediate: sums of a sum's, a token's and a row scale's


class ConvertRow(wiring.Component):
    """Rounds a row sum to float32, multiplies by the row's scale, rounds again, and packs.

    Latency is :attr:`LATENCY` cycles, throughput is one row a cycle; whoever instantiates it stops
    its clock enable to hold it. Bit-exact with section 4 of ``docs/arithmetic.md``.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's, with a floating-point output type.

    Members
    -------
    sum : :py:`In(signed(sum_width))`
        Exact row sum.
    row_scale : :py:`In(32)`
        Row scale, float32; one that is not finite gives a quiet NaN.
    exponent : :py:`In(signed(exponent_width(numerics)))`
        The token's.
    nonfinite : :py:`In(1)`
        Return a quiet NaN.
    number : :py:`Out(width of the output type)`
        The number's bits.
    """

    LATENCY = 9

    sum: Signal
    row_scale: Signal
    exponent: Signal
    nonfinite: Signal
    number: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "sum": In(signed(parameters.sum_width)),
            "row_scale": In(ROW_SCALE_WIDTH),
            "exponent": In(signed(exponent_width(parameters.numerics))),
            "nonfinite": In(1),
            "number": Out(FLOATS[parameters.numerics.output].width),
        })

    def elaborate(self, platform: object) -> Module:
        """Build nine stages from sum to number; every name carries the stage it is ready in."""
        m = Module()
        kind = FLOATS[self.parameters.numerics.output]
        magnitude_1 = delay(m, abs(self.sum), 1, name="magnitude")
        scale_1 = delay(m, self.row_scale[:-1], 1, name="scale")
        token_1 = delay(m, self.exponent, 1, name="token")
        negative_1 = delay(m, (self.sum < 0) ^ self.row_scale[-1], 1, name="negative")
        zero_1 = delay(m, (self.sum == 0) | (self.row_scale[:-1] == 0), 1, name="zero")
        no_scale = self.row_scale[_FLOAT32.fraction_width : -1] == _FLOAT32.exponent_mask
        nonfinite_8 = delay(m, self.nonfinite | no_scale, 8, name="nonfinite")

        kept, half, rest, sum_exponent = self._normalized_sum(m, magnitude_1)
        scale, scale_exponent = self._normalized_scale(m, scale_1)
        kept_2 = delay(m, kept, 1, name="kept")
        half_2 = delay(m, half, 1, name="half")
        rest_2 = delay(m, rest, 1, name="rest")
        scale_3 = delay(m, scale, 2, name="scale_significand")
        total = Signal(_EXPONENT, name="exponent_sum")
        m.d.comb += total.eq(sum_exponent + scale_exponent + token_1.as_signed())
        exponent_2 = delay(m, total, 1, name="exponent_of_sum").as_signed()

        rounded, carry = self._rounded(m, kept_2, half_2, rest_2, name="rounded")
        rounded_3 = delay(m, rounded, 1, name="rounded_sum")
        exponent_6 = self._exponent(m, exponent_2 + carry, 4, name="exponent_of_rounded")

        product_6 = self._product(m, rounded_3, scale_3)
        high = product_6[-1]
        shifted = Signal(len(product_6), name="shifted_product")
        m.d.comb += shifted.eq(Mux(high, product_6, product_6 << 1))
        rounded, carry = self._rounded(
            m,
            shifted[_SIGNIFICAND:],
            shifted[_SIGNIFICAND - 1],
            shifted[: _SIGNIFICAND - 1].any(),
            name="rounded_product",
        )
        significand_7 = delay(m, rounded, 1, name="significand")
        exponent_7 = self._exponent(m, exponent_6 + high + carry, 1, name="exponent_of_product")

        negative_7 = delay(m, negative_1, 6, name="negative_until")
        zero_7 = delay(m, zero_1, 6, name="zero_until")
        number_8 = delay(
            m, self._packed(significand_7, exponent_7, negative_7, zero_7), 1, name="number"
        )
        narrowed = number_8 if kind == _FLOAT32 else self._narrowed(m, number_8)
        m.d.sync += self.number.eq(Mux(nonfinite_8, kind.quiet_nan, narrowed))

        return m

    def _product(self, m: Module, a: Value, b: Value) -> Value:
        """Multiply two significands by a registered tree of adders, three cycles later."""
        rows = [Mux(bit, b, 0) << index for index, bit in enumerate(a)]
        return registered_sum(m, rows, name="product")[: len(a) + len(b)]

    def _normalized_sum(self, m: Module, magnitude: Value) -> tuple[Value, Value, Value, Value]:
        """Leading bits of a sum, the half and whether more follows, and its exponent."""
        padding = max(0, _SIGNIFICAND + 2 - len(magnitude))
        shifted, count = normalize(m, Cat(Const(0, padding), magnitude), name="normal_sum")
        kept, cut = shifted[-_SIGNIFICAND:], shifted[:-_SIGNIFICAND]
        return kept, cut[-1], cut[:-1].any(), len(magnitude) - 1 - count

    def _normalized_scale(self, m: Module, scale: Value) -> tuple[Value, Value]:
        """Significand in [1, 2) of a row scale and its exponent; subnormals are normalised."""
        fraction, field = scale[: _FLOAT32.fraction_width], scale[_FLOAT32.fraction_width :]
        shifted, count = normalize(m, fraction, name="normal_scale")
        subnormal = field == 0
        significand = Mux(subnormal, shifted << 1, Cat(fraction, 1))
        exponent = Mux(subnormal, -count, field) - _FLOAT32.bias
        return significand[:_SIGNIFICAND], exponent

    def _rounded(
        self, m: Module, kept: Value, half: Value, rest: Value, *, name: str
    ) -> tuple[Value, Value]:
        """Significand after rounding, and whether it spilled over to the next power of two."""
        wide = Signal(_SIGNIFICAND + 1, name=name)
        m.d.comb += wide.eq(round_half_even(kept, half, rest))
        return Mux(wide[-1], 1 << (_SIGNIFICAND - 1), wide[:-1])[:_SIGNIFICAND], wide[-1]

    def _exponent(self, m: Module, value: Value, cycles: int, *, name: str) -> Value:
        narrow = Signal(_EXPONENT, name=f"{name}_now")
        m.d.comb += narrow.eq(value)
        return delay(m, narrow, cycles, name=name).as_signed()

    def _packed(self, significand: Value, exponent: Value, negative: Value, zero: Value) -> Value:
        """Float32 bits: tiny numbers become a zero of their sign, huge ones infinity."""
        field = (exponent + _FLOAT32.bias)[: _FLOAT32.exponent_width]
        normal = Cat(significand[:-1], field)
        magnitude = Mux(exponent > _FLOAT32.bias, _FLOAT32.infinity, normal)
        flushed = Mux(exponent < 1 - _FLOAT32.bias, 0, magnitude)
        return Mux(zero, 0, Cat(flushed[: _FLOAT32.width - 1], negative))

    def _narrowed(self, m: Module, number: Value) -> Value:
        """Half-even rounding of a float32 to the narrower output type."""
        kind = FLOATS[self.parameters.numerics.output]
        cut = _FLOAT32.fraction_width - kind.fraction_width
        field = number[_FLOAT32.fraction_width : -1]
        significand = Cat(number[: _FLOAT32.fraction_width], field != 0)

        # Below the smallest normal exponent of the narrow type, bits are lost at the low end.
        lowest = _FLOAT32.bias - kind.bias + 1
        places = Signal(range(_SIGNIFICAND + 2))
        deficit = Mux(field < lowest, lowest - field, 0)
        m.d.comb += places.eq(Mux(deficit > _SIGNIFICAND + 1, _SIGNIFICAND + 1, deficit))
        shifted, lost = shift_right_sticky(m, significand, places, name="narrow")
        rounded = round_half_even(shifted[cut:], shifted[cut - 1], lost | shifted[: cut - 1].any())
        # The hidden bit, if still there, counts the exponent field up from one below.
        below = Mux(field < lowest, 0, field - lowest)
        magnitude = Signal(_FLOAT32.width)
        m.d.comb += magnitude.eq((below << kind.fraction_width) + rounded)
        limited = Mux(magnitude > kind.infinity, kind.infinity, magnitude)
        return Cat(limited[: kind.width - 1], number[-1])
