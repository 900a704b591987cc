"""Finished row sums, in order."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..formats.layout import ROW_SCALE_WIDTH
from .accumulator import row_address_width
from .align import exponent_width
from .parameters import LutParameters

__all__ = ["Drain", "sum_layout"]


def sum_layout(parameters: LutParameters) -> data.StructLayout:
    """Return consecutive rows' exact sums and what it takes to convert them."""
    count = parameters.output_lanes
    return data.StructLayout({
        "sums": data.ArrayLayout(signed(parameters.sum_width), count),
        "row_scales": data.ArrayLayout(ROW_SCALE_WIDTH, count),
        "present": count,  # rows past the end of the layer are not
        "exponent": signed(exponent_width(parameters.numerics)),
        "nonfinite": 1,
        "last": 1,
    })


class Drain(wiring.Component):
    """Reads finished rows out of the lanes: row ``n`` from lane ``n % lanes``.

    ``output_lanes`` rows a cycle while ``advance`` is set, without a gap within a layer. Two layers
    can wait, one in each bank of the row sums.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    done, rows, bank, exponent, nonfinite
        A layer is finished in that bank.
    free : :py:`Out(2)`
        Bit ``b``: bank ``b`` holds nothing that is still wanted.
    read : :py:`Out(1)`
        Read ``read_row`` in every lane.
    read_row : :py:`Out(row_address_width(parameters))`
        Row of every lane to read.
    sums, row_scales
        What the lanes read, an element a lane.
    advance : :py:`In(1)`
        Take ``o`` in this cycle.
    o : :py:`Out(sum_layout(parameters))`
        Rows.
    o_valid : :py:`Out(1)`
        Whether there are any.
    """

    done: Signal
    rows: Signal
    bank: Signal
    exponent: Signal
    nonfinite: Signal
    free: Signal
    read: Signal
    read_row: Signal
    sums: data.View
    row_scales: data.View
    advance: Signal
    o: data.View
    o_valid: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        lanes = parameters.layout.lanes
        super().__init__({
            "done": In(1),
            "rows": In(range(parameters.layout.max_rows + 1)),
            "bank": In(1),
            "exponent": In(signed(exponent_width(parameters.numerics))),
            "nonfinite": In(1),
            "free": Out(2),
            "read": Out(1),
            "read_row": Out(row_address_width(parameters)),
            "sums": In(data.ArrayLayout(signed(parameters.sum_width), lanes)),
            "row_scales": In(data.ArrayLayout(ROW_SCALE_WIDTH, lanes)),
            "advance": In(1),
            "o": Out(sum_layout(parameters)),
            "o_valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = self.parameters.output_lanes
        parts = self.parameters.layout.lanes // count
        finished = data.StructLayout({
            "rows": self.rows.shape(),
            "exponent": self.exponent.shape(),
            "nonfinite": 1,
        })
        layers = [Signal(finished, name=f"layer_{bank}", reset_less=True) for bank in range(2)]
        layer = Signal(finished)
        free = Signal(2, init=0b11)
        bank, part = Signal(), Signal(range(parts))
        left, block = Signal.like(self.rows), Signal(len(self.read_row) - 1)

        for index in range(2):
            with m.If(self.done & (self.bank == index)):
                m.d.sync += free[index].eq(0)
                m.d.sync += layers[index].rows.eq(self.rows)
                m.d.sync += layers[index].exponent.eq(self.exponent)
                m.d.sync += layers[index].nonfinite.eq(self.nonfinite)
        m.d.comb += [
            self.free.eq(free),
            layer.eq(Mux(bank, layers[1], layers[0])),
            self.read_row.eq(Cat(block, bank)),
            self.o.exponent.eq(layer.exponent),
            self.o.nonfinite.eq(layer.nonfinite),
            self.o.last.eq(left <= count),
        ]
        sums, row_scales = Value.cast(self.sums), Value.cast(self.row_scales)
        for index in range(count):
            m.d.comb += self.o.present[index].eq(left > index)
        m.d.comb += Value.cast(self.o.sums).eq(sums.word_select(part, len(sums) // parts))
        m.d.comb += Value.cast(self.o.row_scales).eq(
            row_scales.word_select(part, len(row_scales) // parts)
        )

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [left.eq(layer.rows), part.eq(0)]
                with m.If(~free.bit_select(bank, 1)):
                    m.d.comb += self.read.eq(1)
                    m.d.sync += block.eq(1)
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += self.o_valid.eq(1)
                with m.If(self.advance):
                    m.d.sync += left.eq(left - count)
                    m.d.sync += part.eq(part + 1)
                    with m.If(part == parts - 1):
                        m.d.comb += self.read.eq(1)
                        m.d.sync += part.eq(0)
                        m.d.sync += block.eq(block + 1)
                    with m.If(self.o.last):
                        m.d.sync += block.eq(0)
                        m.d.sync += free.bit_select(bank, 1).eq(1)
                        m.d.sync += bank.eq(~bank)
                        m.next = "IDLE"

        return m
