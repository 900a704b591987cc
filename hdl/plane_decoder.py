"""From codes to the digit plane that one cycle looks up."""

from typing import Any

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .boolean import Function, distinct, evaluate, reduce_truth
from .choose import choose
from .codebooks import CodebookLookUp, codebooks_member
from .parameters import EngineParameters
from .pipeline import delay

__all__ = ["PlaneDecoder", "plane_coefficients", "plane_layout"]


def plane_coefficients(parameters: EngineParameters) -> list[int]:
    """Return the distinct plane coefficients of all formats."""
    members = parameters.layout.members
    return sorted({plane.coefficient for item in members for plane in item.planes})


def plane_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what a core must know of a plane beyond its bits."""
    return data.StructLayout({
        "coefficient": range(len(plane_coefficients(parameters))),  # number of
        "bipolar": 1,
        "zero": 1,  # digit of the zero-point
    })


class PlaneDecoder(wiring.Component):
    """Digit bits of one plane of a slice, for whichever format its weights have.

    Latency is 1 cycle, throughput is one step a cycle, no backpressure. Steps beyond the format's
    planes are not to be asked for.

    Parameters
    ----------
    parameters : EngineParameters
        A LUT engine's; its formats are what can be decoded.

    Members
    -------
    codes : :py:`In(data.ArrayLayout(width, max_code_width))`
        Bit ``b`` of every weight's code in element ``b``.
    format : :py:`In(range(members))`
        Number of the format.
    zero : :py:`In(zero_width)`
        Code of the zero-point.
    step : :py:`In(range(max_cycles))`
        Plane wanted.
    codebooks : :py:`In(codebooks_layout(parameters))`
        The layer's codebooks, where a format is one.
    key : :py:`Out(width)`
        Digit bit of every weight.
    plane : :py:`Out(plane_layout(parameters))`
        Coefficient, kind of digit, digit of the zero-point.
    """

    codes: data.View
    format: Signal
    zero: Signal
    step: Signal
    codebooks: data.View
    key: Signal
    plane: data.View

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "codes": In(data.ArrayLayout(layout.width, layout.max_code_width)),
            "format": In(range(len(layout.members))),
            "zero": In(layout.zero_width),
            "step": In(range(parameters.max_cycles)),
            **codebooks_member(parameters, In),
            "key": Out(layout.width),
            "plane": Out(plane_layout(parameters)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.layout
        functions = distinct(
            (layout.stream_truth(item, plane.truth), item.code_width)
            for item in layout.members
            for plane in item.planes
        )
        address = Cat(self.step, self.format)
        # What each step of each format takes stands in a table: data, not logic. It is looked up
        # before the digits, or their logic would be made anew for each weight to save that time.
        m.submodules.steps = steps = memory.Memory(
            shape=self._step_shape(functions), depth=1 << len(address), init=self._steps(functions)
        )
        read = steps.read_port(domain="comb")
        step = data.View(read.data.shape(), delay(m, read.data, 1, name="step_facts"))

        m.d.comb += [
            read.addr.eq(address),
            self.plane.coefficient.eq(step.coefficient),
            self.plane.bipolar.eq(step.bipolar),
        ]
        codes = [
            delay(m, self.codes[bit], 1, name=f"codes_{bit}")
            for bit in range(layout.max_code_width)
        ]
        looked_up = self._looked_up(m, codes)
        digits = choose([evaluate(f, codes, layout.width) for f in functions], step.function)
        m.d.comb += self.key.eq(digits if looked_up is None else digits | looked_up)
        if len(self.zero):
            zero = delay(m, self.zero, 1, name="zero")
            bits = [*zero, *[Const(0, 1)] * layout.max_code_width]
            digit = choose([evaluate(f, bits, 1) for f in functions], step.function)
            m.d.comb += self.plane.zero.eq(digit & step.has_zero)

        return m

    def _looked_up(self, m: Module, codes: list[Value]) -> Value | None:
        """Digits that are bits of a codebook's entries, 0 for other formats; None without any."""
        layout = self.parameters.layout
        if not layout.codebooks:
            return None
        m.submodules.codebook = codebook = CodebookLookUp(
            parameters=self.parameters, bits=1, width=layout.width
        )
        format_number = delay(m, self.format, 1, name="format")
        step = delay(m, self.step, 1, name="step")
        codebook.connect(m, codes, format_number)
        for slot in layout.codebooks:
            for code in range(1 << slot.code_width):
                entry = Value.cast(self.codebooks[slot.name][code])
                m.d.comb += codebook.entries[slot.name][code].eq(entry.bit_select(step, 1))
        return codebook.o[0]

    def _step_shape(self, functions: list[Function]) -> data.StructLayout:
        return data.StructLayout({
            "function": range(len(functions)),
            "coefficient": plane_layout(self.parameters)["coefficient"].shape,
            "bipolar": 1,
            "has_zero": 1,
        })

    def _steps(self, functions: list[Function]) -> list[Any]:
        """Table contents; what stands beyond a format's planes does not matter."""
        coefficients = plane_coefficients(self.parameters)
        layout = self.parameters.layout
        rows: list[Any] = []
        for item in layout.members:
            for plane in item.planes:
                rows.append({
                    "function": functions.index(
                        reduce_truth(layout.stream_truth(item, plane.truth), item.code_width)
                    ),
                    "coefficient": coefficients.index(plane.coefficient),
                    "bipolar": plane.bipolar,
                    "has_zero": item.has_zero_point,
                })
            rows += [{}] * ((1 << len(self.step)) - len(item.planes))
        return rows
