"""One exact row sum to one floating-point number."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats import FLOATS
from ..formats.layout import ROW_SCALE_WIDTH
from .align import exponent_width
from .floating import normalize, normalize_cycles, round_half_even, shift_right_sticky
from .parameters import EngineParameters
from .pipeline import delay, registered_sum, sum_latency

__all__ = ["ConvertRow", "convert_latency"]

_FLOAT32 = FLOATS["float32"]
_SIGNIFICAND = _FLOAT32.fraction_width + 1
_EXPONENT = signed(12)  # of any intermediate: sums of a sum's, a token's and a row scale's
_NORMAL_LEVELS = 1  # steps of normalising between two registers
_NARROW_CYCLES = 3  # from a float32 to a narrower type, but for the last register


def convert_latency(parameters: EngineParameters) -> int:
    """Return the cycles from a row sum to its number."""
    narrow = FLOATS[parameters.numerics.output] != _FLOAT32
    cycles = _normal_cycles(parameters) + _product_cycles(parameters)
    return 9 + cycles + (_NARROW_CYCLES if narrow else 0)


def _normal_cycles(parameters: EngineParameters) -> int:
    """Cycles of normalising a sum, and a row scale beside it."""
    width = max(parameters.sum_width, _SIGNIFICAND + 2)
    return normalize_cycles(width, levels=_NORMAL_LEVELS)


def _product_cycles(parameters: EngineParameters) -> int:
    """Cycles of the product of two significands."""
    return sum_latency(_SIGNIFICAND, levels=parameters.adder_levels)


class ConvertRow(wiring.Component):
    """Rounds a row sum to float32, multiplies by the row's scale, rounds again, and packs.

    Latency is :attr:`latency` cycles, throughput is one row a cycle; whoever instantiates it stops
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

    @property
    def latency(self) -> int:
        """Cycles from a sum to its number."""
        return convert_latency(self.parameters)

    def elaborate(self, platform: object) -> Module:
        """Build the stages from sum to number.

        Names carry the stage that they are ready in, but for the cycles of normalising and product.
        """
        m = Module()
        kind = FLOATS[self.parameters.numerics.output]
        normal, cycles = _normal_cycles(self.parameters), _product_cycles(self.parameters)
        sum_1 = delay(m, self.sum, 1, name="sum")
        row_scale_1 = delay(m, self.row_scale, 1, name="row_scale")
        token_2 = delay(m, self.exponent, 2 + normal, name="token").as_signed()
        no_scale = row_scale_1[_FLOAT32.fraction_width : -1] == _FLOAT32.exponent_mask
        nonfinite_1 = delay(m, self.nonfinite, 1, name="nonfinite")

        magnitude_2 = delay(m, abs(sum_1), 1, name="magnitude")
        scale_2 = delay(m, row_scale_1[:-1], 1, name="scale")
        negative_2 = delay(m, (sum_1 < 0) ^ row_scale_1[-1], 1, name="negative")
        zero_2 = delay(m, (sum_1 == 0) | (row_scale_1[:-1] == 0), 1, name="zero")

        kept, half, rest, sum_exponent_2 = self._normalized_sum(m, magnitude_2)
        scale_2, scale_exponent_2 = self._normalized_scale(m, scale_2)
        kept_3 = delay(m, kept, 1, name="kept")
        half_3 = delay(m, half, 1, name="half")
        rest_3 = delay(m, rest, 1, name="rest")
        scale_4 = delay(m, scale_2, 2, name="scale_significand")
        scale_exponent_3 = self._exponent(m, scale_exponent_2, 1, name="scale_exponent")
        exponent_3 = self._exponent(m, sum_exponent_2 + token_2, 1, name="exponent_of_sum")
        exponent_4 = self._exponent(m, exponent_3 + scale_exponent_3, 1, name="exponent_of_both")

        rounded, carry = self._rounded(m, kept_3, half_3, rest_3, name="rounded")
        rounded_4 = delay(m, rounded, 1, name="rounded_sum")
        carry_4 = delay(m, carry, 1, name="rounded_up")
        product_4 = self._product(m, rounded_4, scale_4)
        exponent_4 = self._exponent(m, exponent_4 + carry_4, cycles, name="exponent_of_rounded")

        high = product_4[-1]
        shifted = Signal(len(product_4), name="shifted_product")
        m.d.comb += shifted.eq(Mux(high, product_4, product_4 << 1))
        cut = shifted[: _SIGNIFICAND - 1]
        kept_5 = delay(m, shifted[_SIGNIFICAND:], 1, name="kept_product")
        half_5 = delay(m, shifted[_SIGNIFICAND - 1], 1, name="half_product")
        rest_5 = delay(m, cut.any(), 1, name="rest_product")
        exponent_5 = self._exponent(m, exponent_4 + high, 1, name="exponent_of_product")

        rounded, carry = self._rounded(m, kept_5, half_5, rest_5, name="rounded_product")
        significand_6 = delay(m, rounded, 1, name="significand")
        exponent_6 = self._exponent(m, exponent_5 + carry, 1, name="exponent_of_number")
        negative_6 = delay(m, negative_2, 4 + normal + cycles, name="negative_until")
        zero_6 = delay(m, zero_2, 4 + normal + cycles, name="zero_until")
        negative_7 = delay(m, negative_6 & ~zero_6, 1, name="negative_of_number")
        magnitude_7 = self._packed(m, significand_6, exponent_6, zero_6)
        number_8 = delay(m, Cat(magnitude_7, negative_7), 1, name="number")
        narrowed = number_8 if kind == _FLOAT32 else self._narrowed(m, number_8)
        nonfinite = delay(m, nonfinite_1 | no_scale, self.latency - 2, name="nonfinite_until")
        m.d.sync += self.number.eq(Mux(nonfinite, kind.quiet_nan, narrowed))

        return m

    def _product(self, m: Module, a: Value, b: Value) -> Value:
        """Multiply two significands by a registered tree of adders."""
        rows = [Mux(bit, b, 0) << index for index, bit in enumerate(a)]
        levels = self.parameters.adder_levels
        return registered_sum(m, rows, levels=levels, name="product")[: len(a) + len(b)]

    def _normalized_sum(self, m: Module, magnitude: Value) -> tuple[Value, Value, Value, Value]:
        """Leading bits of a sum, the half and whether more follows, and its exponent."""
        padding = max(0, _SIGNIFICAND + 2 - len(magnitude))
        padded = Cat(Const(0, padding), magnitude)
        shifted, count = normalize(m, padded, name="normal_sum", levels=_NORMAL_LEVELS)
        kept, cut = shifted[-_SIGNIFICAND:], shifted[:-_SIGNIFICAND]
        return kept, cut[-1], cut[:-1].any(), len(magnitude) - 1 - count

    def _normalized_scale(self, m: Module, scale: Value) -> tuple[Value, Value]:
        """Significand in [1, 2) of a row scale and its exponent; subnormals are normalised."""
        fraction = scale[: _FLOAT32.fraction_width]
        shifted, count = normalize(m, fraction, name="normal_scale", levels=_NORMAL_LEVELS)
        cycles = _normal_cycles(self.parameters)
        rest = cycles - normalize_cycles(len(fraction), levels=_NORMAL_LEVELS)
        shifted = delay(m, shifted, rest, name="normal_scale_late")
        count = delay(m, count, rest, name="normal_scale_count_late")
        subnormal = delay(m, scale[_FLOAT32.fraction_width :] == 0, cycles, name="subnormal_scale")
        scale = delay(m, scale, cycles, name="normal_scale_of")
        fraction, field = scale[: _FLOAT32.fraction_width], scale[_FLOAT32.fraction_width :]
        significand = Mux(subnormal, shifted << 1, Cat(fraction, 1))
        # One adder: to negate is to add 1 to the complement.
        magnitude = Mux(subnormal, ~Cat(count, Const(0, 1)).as_signed(), field)
        exponent = magnitude - _FLOAT32.bias + subnormal
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

    def _packed(self, m: Module, significand: Value, exponent: Value, zero: Value) -> Value:
        """Float32 bits but the sign, a cycle later: tiny ones become zero, huge ones infinity."""
        field = (exponent + _FLOAT32.bias)[: _FLOAT32.exponent_width]
        normal = delay(m, Cat(significand[:-1], field), 1, name="normal")
        huge = delay(m, exponent > _FLOAT32.bias, 1, name="huge")
        tiny = delay(m, zero | (exponent < 1 - _FLOAT32.bias), 1, name="tiny")
        return Mux(tiny, 0, Mux(huge, _FLOAT32.infinity, normal))[: _FLOAT32.width - 1]

    def _narrowed(self, m: Module, number: Value) -> Value:
        """Half-even rounding of a float32 to the narrower output type, ``_NARROW_CYCLES`` later."""
        kind = FLOATS[self.parameters.numerics.output]
        cut = _FLOAT32.fraction_width - kind.fraction_width
        field = number[_FLOAT32.fraction_width : -1]
        significand = Cat(number[: _FLOAT32.fraction_width], field != 0)

        # Below the smallest normal exponent of the narrow type, bits are lost at the low end.
        lowest = _FLOAT32.bias - kind.bias + 1
        places = Signal(range(_SIGNIFICAND + 2))
        deficit = Mux(field < lowest, lowest - field, 0)
        m.d.comb += places.eq(Mux(deficit > _SIGNIFICAND + 1, _SIGNIFICAND + 1, deficit))
        below = delay(m, Mux(field < lowest, 0, field - lowest), _NARROW_CYCLES, name="below")
        negative = delay(m, number[-1], _NARROW_CYCLES, name="narrow_negative")
        shifted, lost = shift_right_sticky(
            m,
            delay(m, significand, 1, name="wide"),
            delay(m, places, 1, name="narrow_places"),
            name="narrow",
        )
        shifted = delay(m, shifted, 1, name="narrow_shifted")
        lost = delay(m, lost, 1, name="narrow_lost")
        rounded = round_half_even(shifted[cut:], shifted[cut - 1], lost | shifted[: cut - 1].any())
        # The hidden bit, if still there, counts the exponent field up from one below.
        magnitude = Signal(_FLOAT32.width)
        m.d.comb += magnitude.eq((below << kind.fraction_width) + rounded)
        limited = Mux(magnitude > kind.infinity, kind.infinity, magnitude)
        return Cat(limited[: kind.width - 1], negative)
