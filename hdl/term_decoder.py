"""From codes to the signed powers of two that one cycle adds."""

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..formats import NumberFormat, StreamLayout, TermStep
from .boolean import Function, reduce_truth
from .code_functions import CodeFunctions
from .codebooks import CodebookLookUp, codebooks_member
from .parameters import EngineParameters

__all__ = ["TermDecoder", "term_layout"]


def term_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return one step's terms of a part's weights, and in the top place the zero-point's.

    A weight's term is ``2**(base + size - 1)``, or nothing where ``size`` is 0; it is taken off
    where ``negative`` is 1, which means nothing where there is no term. Bit ``b`` of every size is
    in element ``b``.
    """
    steps = [step for item in parameters.layout.members for step in item.term_steps]
    width = parameters.part_width + 1
    return data.StructLayout({
        "negative": width,
        "size": data.ArrayLayout(width, max(step.span for step in steps).bit_length()),
        "base": range(max(step.base for step in steps) + 1),
    })


class TermDecoder(wiring.Component):
    """Terms of one step of many weights, for whichever format their record names.

    Combinational. A format without a zero-point has no term for it.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's; its formats are what can be decoded.

    Members
    -------
    codes : :py:`In(data.ArrayLayout(part_width + 1, max_code_width))`
        Bit ``b`` of every weight's code in element ``b``; the zero-point's code in the top place.
    format : :py:`In(range(members))`
        Number of the format.
    step : :py:`In(range(max step_count))`
        Step wanted; one that the format has.
    codebooks : :py:`In(codebooks_layout(parameters))`
        The layer's codebooks, where a format is one.
    terms : :py:`Out(term_layout(parameters))`
        The terms.
    """

    codes: data.View
    format: Signal
    step: Signal
    codebooks: data.View
    terms: data.View

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "codes": In(data.ArrayLayout(parameters.part_width + 1, layout.max_code_width)),
            "format": In(range(len(layout.members))),
            "step": In(range(max(item.step_count for item in layout.members))),
            **codebooks_member(parameters, In),
            "terms": Out(term_layout(parameters)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters, layout = self.parameters, self.parameters.layout
        size_width = len(self.terms.size)
        row_count = 1 << len(self.step)
        rows: list[list[Function]] = []
        facts = []
        for item in layout.members:
            for step in item.term_steps:
                rows.append([
                    *_size_functions(layout, item, step, size_width),
                    _sign_function(layout, item, step),
                ])
                facts.append({"base": step.base, "has_zero": item.has_zero_point})
            rest = row_count - item.step_count
            rows += [[]] * rest
            facts += [{}] * rest

        m.submodules.functions = functions = CodeFunctions(
            rows=rows, code_width=layout.max_code_width, width=parameters.part_width + 1
        )
        shape = data.StructLayout({"base": self.terms.base.shape(), "has_zero": 1})
        m.submodules.facts = store = memory.Memory(shape=shape, depth=len(facts), init=facts)
        read = store.read_port(domain="comb")
        row = Cat(self.step, self.format)
        m.d.comb += [
            functions.codes.eq(self.codes),
            functions.row.eq(row),
            read.addr.eq(row),
            self.terms.base.eq(read.data.base),
        ]
        bits = [functions.o[bit] for bit in range(size_width + 1)]
        if layout.codebooks:
            looked_up = self._looked_up(m)
            size = [looked_up[bit] for bit in range(looked_up.shape().length - 1)]
            size += [Const(0)] * (size_width - len(size))
            bits = [bits[i] | own for i, own in enumerate([*size, looked_up[-1]])]
        m.d.comb += self.terms.negative.eq(bits[size_width])
        for bit in range(size_width):
            m.d.comb += self.terms.size[bit].eq(bits[bit])
            m.d.comb += self.terms.size[bit][-1].eq(functions.o[bit][-1] & read.data.has_zero)
        return m

    def _looked_up(self, m: Module) -> data.View:
        """Sizes and then signs of the terms of a codebook's entries; 0 for all other formats."""
        layout = self.parameters.layout
        m.submodules.codebook = codebook = CodebookLookUp(
            parameters=self.parameters,
            bits=layout.codebook_entry["size_0"] + 1,
            width=self.parameters.part_width,
        )
        codebook.connect(m, self.codes, self.format)
        with m.Switch(self.step):
            for index in range(layout.codebook_terms):
                with m.Case(index):
                    for slot in layout.codebooks:
                        for code in range(1 << slot.code_width):
                            term = self.codebooks[slot.name][code][index]
                            m.d.comb += codebook.entries[slot.name][code].eq(Value.cast(term))
        return codebook.o


def _size_functions(
    layout: StreamLayout, item: NumberFormat, step: TermStep, width: int
) -> list[Function]:
    """Functions of the size's bits."""
    sizes = [term.exponent - step.base + 1 if term else 0 for term in step.terms]
    return [
        reduce_truth(
            layout.stream_truth(
                item, sum((size >> bit & 1) << code for code, size in enumerate(sizes))
            ),
            item.code_width,
        )
        for bit in range(width)
    ]


def _sign_function(layout: StreamLayout, item: NumberFormat, step: TermStep) -> Function:
    """Find a simple function that is the sign wherever there is a term."""
    numbers = layout.stream_codes(item)
    known = {numbers[code]: term.sign < 0 for code, term in enumerate(step.terms) if term}
    # A bit does not matter if no two known codes that differ in it alone differ in sign.
    for bit in range(item.code_width):
        if all(known.get(code ^ 1 << bit, sign) == sign for code, sign in known.items()):
            known.update({code ^ 1 << bit: sign for code, sign in known.items()})
    return reduce_truth(sum(sign << code for code, sign in known.items()), item.code_width)
