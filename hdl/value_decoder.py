"""From codes to the integers that they stand for."""

import numpy as np
import numpy.typing as npt
from amaranth import Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..formats import CodebookSlot, NumberFormat, StreamLayout
from .boolean import Function, reduce_truth
from .code_functions import CodeFunctions
from .codebooks import CodebookLookUp, codebooks_member
from .parameters import EngineParameters, signed_width

__all__ = ["ValueDecoder", "value_tables", "value_width"]


def value_tables(item: NumberFormat) -> npt.NDArray[np.int64]:
    """Return the value of every code for each of the format's scales, ``(scales, codes) int64``.

    Beside a zero-point only differences matter; then values are centred, which saves a bit. Those
    of a codebook are 0: they are looked up.
    """
    if isinstance(item, CodebookSlot):
        return np.zeros((1, 1 << item.code_width), dtype=np.int64)
    tables = item.weight_table(np.eye(item.scale_count, dtype=np.int64))
    if item.has_zero_point:
        tables = tables - (tables.min() + tables.max() + 1) // 2
    return tables


def value_width(layout: StreamLayout) -> int:
    """Bits of a signed value of any of the formats."""
    tables = [value_tables(item) for item in layout.members]
    widths = [signed_width(max(int(t.max()), int(~t.min()))) for t in tables]
    return max([*widths, *(slot.value_width for slot in layout.codebooks)])


class ValueDecoder(wiring.Component):
    """Values of many weights, for whichever format their record names.

    Combinational. A format without a zero-point has the value 0 for it.

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
    scale : :py:`In(range(scale_count))`
        Which of its scales the values are to be multiplied with.
    codebooks : :py:`In(codebooks_layout(parameters))`
        The layer's codebooks, where a format is one.
    values : :py:`Out(data.ArrayLayout(part_width + 1, value_width))`
        Bit ``b`` of every value, in two's complement, in element ``b``.
    """

    codes: data.View
    format: Signal
    scale: Signal
    codebooks: data.View
    values: data.View

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout, width = parameters.layout, parameters.part_width + 1
        super().__init__({
            "codes": In(data.ArrayLayout(width, layout.max_code_width)),
            "format": In(range(len(layout.members))),
            "scale": In(range(layout.scale_count)),
            **codebooks_member(parameters, In),
            "values": Out(data.ArrayLayout(width, value_width(layout))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout, width = self.parameters.layout, value_width(self.parameters.layout)
        rows: list[list[Function]] = []
        for item in layout.members:
            for table in value_tables(item):
                rows.append([
                    reduce_truth(
                        layout.stream_truth(
                            item,
                            sum(
                                (int(value) >> bit & 1) << code for code, value in enumerate(table)
                            ),
                        ),
                        item.code_width,
                    )
                    for bit in range(width)
                ])
            rows += [[]] * ((1 << len(self.scale)) - item.scale_count)
        m.submodules.functions = functions = CodeFunctions(
            rows=rows, code_width=layout.max_code_width, width=self.parameters.part_width + 1
        )
        has_zero = [item.has_zero_point for item in layout.members]
        m.submodules.facts = store = memory.Memory(shape=1, depth=len(has_zero), init=has_zero)
        read = store.read_port(domain="comb")
        m.d.comb += [
            functions.codes.eq(self.codes),
            functions.row.eq(Cat(self.scale, self.format)),
            read.addr.eq(self.format),
        ]
        looked_up = self._looked_up(m, width) if layout.codebooks else None
        for bit in range(width):
            value = functions.o[bit] if looked_up is None else functions.o[bit] | looked_up[bit]
            m.d.comb += self.values[bit].eq(value)
            m.d.comb += self.values[bit][-1].eq(functions.o[bit][-1] & read.data)
        return m

    def _looked_up(self, m: Module, bits: int) -> data.View:
        """Values that are a codebook's entries; 0 for all other formats."""
        layout = self.parameters.layout
        m.submodules.codebook = codebook = CodebookLookUp(
            parameters=self.parameters, bits=bits, width=self.parameters.part_width
        )
        codebook.connect(m, self.codes, self.format)
        for slot in layout.codebooks:
            for code in range(1 << slot.code_width):
                entry = self.codebooks[slot.name][code]
                m.d.comb += codebook.entries[slot.name][code].eq(entry)
        return codebook.o
