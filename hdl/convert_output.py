"""Exact row sums to output numbers: section 4 of the arithmetic contract."""

from amaranth import Cat, Const, EnableInserter, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..formats import FLOATS
from .align import exponent_width
from .drain import sum_layout
from .floating import normalize, round_half_even, shift_right_sticky
from .parameters import LutParameters
from .pipeline import delay

__all__ = ["ConvertOutput", "output_layout"]

_FLOAT32 = FLOATS["float32"]
_SIGNIFICAND = _FLOAT32.fraction_width + 1
_EXPONENT = signed(12)  # of any intermediate: sums of a sum's, a token's and a row scale's


def output_layout(parameters: LutParameters) -> data.StructLayout:
    """Return one element of the output stream; ``int`` output has the token's exponent with it."""
    kind = parameters.numerics.output
    if kind == "int":
        return data.StructLayout({
            "value": signed(parameters.sum_width),
            "exponent": signed(exponent_width(parameters.numerics)),
            "last": 1,
        })
    return data.StructLayout({"value": FLOATS[kind].width, "last": 1})


class ConvertOutput(wiring.Component):
    """Rounds a row sum to float32, multiplies by the row's scale, rounds, and packs.

    Latency is :attr:`latency` cycles while the output is taken, throughput is one row a cycle,
    backpressure is full: everything holds while the output waits.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    i : :py:`In(stream.Signature(sum_layout(parameters)))`
        Row sums.
    o : :py:`Out(stream.Signature(output_layout(parameters)))`
        Numbers, in the same order.
    busy : :py:`Out(1)`
        Whether a row is under way.
    """

    i: stream.Interface
    o: stream.Interface
    busy: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        super().__init__({
            "i": In(stream.Signature(sum_layout(parameters))),
            "o": Out(stream.Signature(output_layout(parameters))),
            "busy": Out(1),
        })

    @property
    def latency(self) -> int:
        """Cycles from row sum to number."""
        return 1 if self.parameters.numerics.output == "int" else 7

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A module of its own, so that one enable holds all of the pipeline's registers.
        pipeline = Module()
        valid = Signal(self.latency)
        pipeline.d.sync += valid.eq(Cat(self.i.valid, valid))
        last = delay(pipeline, self.i.payload.last, self.latency, name="last")
        if self.parameters.numerics.output == "int":
            pipeline.d.sync += self.o.payload.value.eq(self.i.payload.sum)
            pipeline.d.sync += self.o.payload.exponent.eq(self.i.payload.exponent)
        else:
            self._convert(pipeline)
        advance = Signal()
        m.submodules.pipeline = EnableInserter(advance)(pipeline)

        m.d.comb += [
            self.o.valid.eq(valid[-1]),
            self.o.payload.last.eq(last),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
            self.busy.eq(valid.any()),
        ]
        return m

    def _convert(self, m: Module) -> None:
        """Seven stages from sum to number; every name carries the stage that it is ready in."""
        row = self.i.payload
        kind = FLOATS[self.parameters.numerics.output]
        magnitude_1 = delay(m, abs(row.sum), 1, name="magnitude")
        scale_1 = delay(m, row.row_scale[:-1], 1, name="scale")
        token_1 = delay(m, row.exponent, 1, name="token")
        negative_1 = delay(m, (row.sum < 0) ^ row.row_scale[-1], 1, name="negative")
        zero_1 = delay(m, (row.sum == 0) | (row.row_scale[:-1] == 0), 1, name="zero")
        nonfinite_6 = delay(m, row.nonfinite, 6, name="nonfinite")

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
        exponent_4 = self._exponent(m, exponent_2 + carry, 2, name="exponent_of_rounded")

        product_4 = delay(m, rounded_3 * scale_3, 1, name="product")
        high = product_4[-1]
        shifted = Signal(len(product_4), name="shifted_product")
        m.d.comb += shifted.eq(Mux(high, product_4, product_4 << 1))
        rounded, carry = self._rounded(
            m,
            shifted[_SIGNIFICAND:],
            shifted[_SIGNIFICAND - 1],
            shifted[: _SIGNIFICAND - 1].any(),
            name="rounded_product",
        )
        significand_5 = delay(m, rounded, 1, name="significand")
        exponent_5 = self._exponent(m, exponent_4 + high + carry, 1, name="exponent_of_product")

        negative_5 = delay(m, negative_1, 4, name="negative_until")
        zero_5 = delay(m, zero_1, 4, name="zero_until")
        number_6 = delay(
            m, self._packed(significand_5, exponent_5, negative_5, zero_5), 1, name="number"
        )
        narrowed = number_6 if kind == _FLOAT32 else self._narrowed(m, number_6)
        m.d.sync += self.o.payload.value.eq(Mux(nonfinite_6, kind.quiet_nan, narrowed))

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
