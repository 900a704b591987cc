"""From codes to the digit plane that one cycle looks up."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .boolean import Function, distinct, evaluate, inputs_of, reduce_truth
from .choose import choose
from .codebooks import CodebookLookUp, codebooks_member
from .memory_attributes import IN_LOGIC
from .parameters import EngineParameters
from .pipeline import delay

__all__ = ["PlaneDecoder", "decode_cycles", "plane_coefficients", "plane_layout"]


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


def decode_cycles(parameters: EngineParameters) -> int:
    """Return the cycles from codes to their digits.

    One to look up what the step takes; one more where digits of several registers come together.
    """
    return 1 if len(_shares(parameters)) == 1 and not parameters.layout.codebooks else 2


class PlaneDecoder(wiring.Component):
    """Digit bits of one plane of a slice, for whichever format its weights have.

    Latency is :func:`decode_cycles`, throughput is one step a cycle, no backpressure. Steps beyond
    the format's planes are not to be asked for.

    Of all functions of a code that are some plane's digit, a step takes one. A register each keeps
    it for every weight, or 0 by its reset where another one is taken, which costs no LUT; what is
    left is an OR. Functions of several bits share a register where one LUT can choose among them,
    and the one that all share, if it comes to that, is left to whoever takes the key.

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
        shares = _shares(self.parameters)
        address = Cat(self.step, self.format)
        # What each step of each format takes stands in a table: data, not logic. It is looked up
        # before the digits, or their logic would be made anew for each weight to save that time.
        shape = self._step_shape(shares)
        m.submodules.steps = steps = memory.Memory(
            shape=shape, depth=1 << len(address), init=self._steps(shares), attrs=IN_LOGIC
        )
        read = steps.read_port(domain="comb")
        m.d.comb += read.addr.eq(address)
        step = data.View(shape, delay(m, read.data, 1, name="step_facts"))
        later = step
        if decode_cycles(self.parameters) == 2:
            later = data.View(shape, delay(m, step, 1, name="later_facts"))

        # The zero-point's digit is that of one weight more.
        codes = []
        for bit in range(layout.max_code_width):
            zero = self.zero[bit] if bit < len(self.zero) else Const(0, 1)
            codes.append(delay(m, Cat(self.codes[bit], zero), 1, name=f"codes_{bit}"))
        digits = self._digits(m, shares, codes, step)
        looked_up = self._looked_up(m, [code[:-1] for code in codes])
        key = digits[:-1] if looked_up is None else digits[:-1] | looked_up
        m.d.comb += [
            self.key.eq(key),
            self.plane.coefficient.eq(later.coefficient),
            self.plane.bipolar.eq(later.bipolar),
            self.plane.zero.eq(digits[-1] & later.has_zero),
        ]
        return m

    def _digits(
        self, m: Module, shares: list[list[Function]], codes: list[Value], step: data.View
    ) -> Value:
        """Return the digit of every weight and of the zero-point as `plane` tells of it."""
        width = self.parameters.layout.width + 1
        kept = []
        for index, share in enumerate(shares):
            taken = choose([evaluate(f, codes, width) for f in share], step.within)
            if decode_cycles(self.parameters) == 1:
                return taken
            digits = Signal(width, name=f"digits_{index}", reset_less=True)
            with m.If(step.share[index]):
                m.d.sync += digits.eq(taken)
            with m.Else():
                m.d.sync += digits.eq(0)
            kept.append(digits)
        return reduce(or_, kept)

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
        return delay(m, codebook.o[0], 1, name="looked_up")

    def _step_shape(self, shares: list[list[Function]]) -> data.StructLayout:
        return data.StructLayout({
            "share": len(shares),  # one-hot
            "within": range(max(map(len, shares))),
            "coefficient": plane_layout(self.parameters)["coefficient"].shape,
            "bipolar": 1,
            "has_zero": 1,
        })

    def _steps(self, shares: list[list[Function]]) -> list[Any]:
        """Table contents; what stands beyond a format's planes does not matter."""
        coefficients = plane_coefficients(self.parameters)
        layout = self.parameters.layout
        places = {
            function: (share, within)
            for share, functions in enumerate(shares)
            for within, function in enumerate(functions)
        }
        rows: list[Any] = []
        for item in layout.members:
            for plane in item.planes:
                truth = layout.stream_truth(item, plane.truth)
                share, within = places[reduce_truth(truth, item.code_width)]
                rows.append({
                    "share": 1 << share,
                    "within": within,
                    "coefficient": coefficients.index(plane.coefficient),
                    "bipolar": plane.bipolar,
                    "has_zero": item.has_zero_point,
                })
            rows += [{}] * ((1 << len(self.step)) - len(item.planes))
        return rows


def _shares(parameters: EngineParameters) -> list[list[Function]]:
    """Deal the functions of all planes to registers: each bit of a code has one of its own."""
    layout = parameters.layout
    shares: list[list[Function]] = []
    several: list[Function] = []
    for function in distinct(
        (layout.stream_truth(item, plane.truth), item.code_width)
        for item in layout.members
        for plane in item.planes
    ):
        if len(inputs_of(function)) > 1:
            several.append(function)
        else:
            shares.append([function])
    inputs = max((len(inputs_of(function)) for function in several), default=0)
    together = 1 << max(0, parameters.lut_inputs - inputs)
    shares += [several[at : at + together] for at in range(0, len(several), together)]
    return shares
