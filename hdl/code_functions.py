"""Boolean functions of codes: which ones, a table says; evaluated for many codes at once."""

from collections.abc import Sequence
from typing import Any

from amaranth import Const, Module, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .boolean import Function, evaluate

__all__ = ["CodeFunctions"]


class CodeFunctions(wiring.Component):
    """Bits of what codes stand for, where that depends on a row: a format, or a step of one.

    Combinational. Functions are logic, once each however many rows have them; which of them a row
    takes is data.

    Parameters
    ----------
    rows : sequence of sequences of Function
        For each row the function of every output bit; empty where a row does not occur.
    code_width : int
        Bits of a code.
    width : int
        Codes.

    Members
    -------
    codes : :py:`In(data.ArrayLayout(width, code_width))`
        Bit ``b`` of every code in element ``b``.
    row : :py:`In(range(rows))`
        Which row.
    o : :py:`Out(data.ArrayLayout(width, bits))`
        Output bit ``b`` of every code in element ``b``.
    """

    codes: data.View
    row: Signal
    o: data.View

    def __init__(self, *, rows: Sequence[Sequence[Function]], code_width: int, width: int) -> None:
        self._rows = rows
        self._width = width
        super().__init__({
            "codes": In(data.ArrayLayout(width, code_width)),
            "row": In(range(len(rows))),
            "o": Out(data.ArrayLayout(width, max(map(len, rows)))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        codes = [self.codes[bit] for bit in range(self.codes.shape().length)]
        functions = [
            list(dict.fromkeys(row[bit] for row in self._rows if row))
            for bit in range(self.o.shape().length)
        ]
        for bit, (choices, choice) in enumerate(
            zip(functions, self._chosen(m, functions), strict=True)
        ):
            with m.Switch(choice):
                for index, function in enumerate(choices):
                    # The last one also stands for what does not occur.
                    with m.Default() if index == len(choices) - 1 else m.Case(index):
                        m.d.comb += self.o[bit].eq(evaluate(function, codes, self._width))
        return m

    def _chosen(self, m: Module, functions: list[list[Function]]) -> Sequence[Value]:
        """Look up which of each bit's functions the row takes."""
        width = (max(map(len, functions)) - 1).bit_length()
        if not width:
            return [Const(0, 0)] * len(functions)
        rows: list[Any] = [
            [functions[bit].index(function) for bit, function in enumerate(row)]
            or [0] * len(functions)
            for row in self._rows
        ]
        shape = data.ArrayLayout(width, len(functions))
        m.submodules.chosen = store = memory.Memory(shape=shape, depth=len(rows), init=rows)
        read = store.read_port(domain="comb")
        m.d.comb += read.addr.eq(self.row)
        return [read.data[bit] for bit in range(len(functions))]
