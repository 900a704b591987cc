"""From codes to the digit plane that one cycle looks up."""

from typing import Any

from amaranth import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..formats import NumberFormat, StreamLayout
from .parameters import LutParameters

__all__ = ["PlaneDecoder", "header_layout", "step_layout"]


def header_layout(layout: StreamLayout) -> data.StructLayout:
    """Return the record header of one lane as a structure; scales are signed."""
    return data.StructLayout({
        name: signed(width) if name.startswith("scale") else width
        for name, width in layout.record_header.items()
    })


def step_layout(parameters: LutParameters) -> data.StructLayout:
    """Return what the lane must know of a plane beyond its bits.

    ``coefficient`` is an index into the parameters' coefficients, one past the end for zero.
    """
    return data.StructLayout({
        "coefficient": len(parameters.coefficients).bit_length(),
        "bipolar": 1,
        "zero": 1,
        "every_step": 1,
        "scale": signed(parameters.layout.scale_width + 1),
    })


class PlaneDecoder(wiring.Component):
    """Digit bits of one plane of a slice, for whichever format the record's header names.

    Combinational. A step beyond the format's planes yields coefficient zero: such steps occur
    where another lane's format is slower.

    Parameters
    ----------
    parameters : LutParameters
        The engine's; its formats are what can be decoded.

    Members
    -------
    codes : :py:`In(data.ArrayLayout(width, max_code_width))`
        Bit ``b`` of every weight's code in element ``b``.
    header : :py:`In(header_layout(layout))`
        The lane's record header.
    step : :py:`In(range(max_planes))`
        Plane wanted.
    key : :py:`Out(width)`
        Digit bit of every weight.
    info : :py:`Out(step_layout(parameters))`
        Coefficient, kind of digit, digit of the zero-point, scale.
    """

    codes: data.View
    header: data.View
    step: Signal
    key: Signal
    info: data.View

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "codes": In(data.ArrayLayout(layout.width, layout.max_code_width)),
            "header": In(header_layout(layout)),
            "step": In(range(layout.max_planes)),
            "key": Out(layout.width),
            "info": Out(step_layout(parameters)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.layout
        functions = _distinct_functions(layout.members)
        address = Cat(self.step, self.header.format)
        # What each step of each format takes stands in a table: data, not logic.
        m.submodules.steps = steps = memory.Memory(
            shape=self._step_shape(), depth=1 << len(address), init=self._steps(functions)
        )
        read = steps.read_port(domain="comb")
        step = read.data

        m.d.comb += [
            read.addr.eq(address),
            self.info.coefficient.eq(step.coefficient),
            self.info.bipolar.eq(step.bipolar),
            self.info.every_step.eq(step.every_step),
        ]
        with m.Switch(step.scale_index):
            for index in range(layout.scale_count):
                with m.Case(index):
                    m.d.comb += self.info.scale.eq(self.header[f"scale_{index}"])

        codes = [self.codes[bit] for bit in range(layout.max_code_width)]
        with m.Switch(step.function):
            for index, function in enumerate(functions):
                with m.Case(index):
                    m.d.comb += self.key.eq(_evaluate(function, codes, layout.width))
                    if "zero" in layout.record_header:
                        zero = [*self.header.zero, *[Const(0, 1)] * layout.max_code_width]
                        digit = _evaluate(function, zero, 1)
                        m.d.comb += self.info.zero.eq(digit & step.has_zero)

        return m

    def _step_shape(self) -> data.StructLayout:
        return data.StructLayout({
            "function": range(len(_distinct_functions(self.parameters.layout.members))),
            "coefficient": step_layout(self.parameters)["coefficient"].shape,
            "scale_index": range(self.parameters.layout.scale_count),
            "bipolar": 1,
            "every_step": 1,
            "has_zero": 1,
        })

    def _steps(self, functions: list) -> list[Any]:
        """Table contents; a step beyond a format's planes has coefficient zero."""
        layout, coefficients = self.parameters.layout, self.parameters.coefficients
        step_count = 1 << len(self.step)
        nothing = {"coefficient": len(coefficients)}
        rows = []
        for item in layout.members:
            for plane in item.planes:
                rows.append({
                    "function": functions.index(_function(plane.truth, item.code_width)),
                    "coefficient": coefficients.index(plane.coefficient),
                    "scale_index": plane.scale_index,
                    "bipolar": plane.bipolar,
                    "every_step": item.scale_count > 1,
                    "has_zero": item.has_zero_point,
                })
            idle = {**nothing, "every_step": item.scale_count > 1}
            rows += [idle] * (step_count - len(item.planes))
        return rows


# A Boolean function of code bits: a constant, or (bit, value if it is 1, value if it is 0).
_Function = bool | tuple


def _function(truth: int, code_width: int) -> _Function:
    """Reduce a truth table by Shannon expansion, highest bit first; equal functions are equal."""
    if code_width == 0:
        return bool(truth)
    half = 1 << (code_width - 1)
    high = _function(truth >> half, code_width - 1)
    low = _function(truth & (1 << half) - 1, code_width - 1)
    return low if high == low else (code_width - 1, high, low)


def _distinct_functions(members: tuple[NumberFormat, ...]) -> list[_Function]:
    """List every plane function of the formats once, in order of appearance."""
    found = dict.fromkeys(_function(p.truth, m.code_width) for m in members for p in m.planes)
    return list(found)


def _evaluate(function: _Function, bits: list, width: int) -> Value:
    """Apply a function to many codes at once: element ``b`` holds bit ``b`` of all of them."""
    if isinstance(function, bool):
        return Const((1 << width) - 1 if function else 0, width)
    bit, high, low = function
    chosen = bits[bit]
    if high is True and low is False:
        return chosen
    if high is False and low is True:
        return ~chosen
    if low is False:
        return chosen & _evaluate(high, bits, width)
    if high is False:
        return ~chosen & _evaluate(low, bits, width)
    if high is True:
        return chosen | _evaluate(low, bits, width)
    if low is True:
        return ~chosen | _evaluate(high, bits, width)
    return (chosen & _evaluate(high, bits, width)) | (~chosen & _evaluate(low, bits, width))
