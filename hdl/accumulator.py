"""Row sums of one lane, in memory."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .parameters import EngineParameters

__all__ = ["RowAccumulator"]


class RowAccumulator(wiring.Component):
    """A memory of row sums that takes one addition a token a cycle, to any row, again and again.

    ``prepare`` names the row one cycle before ``add`` adds to it. Consecutive additions to one row
    see each other. ``drain`` reads a row of the other layer at the same time.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    prepare_row : :py:`In(row_address_width)`
        Row of the next cycle's addition.
    add : :py:`In(1)`
        Add now.
    clear : :py:`In(1)`
        Start from zero instead of from what the row holds.
    row : :py:`In(row_address_width)`
        Row of this cycle's addition: what ``prepare_row`` was in the cycle before.
    values : :py:`In(data.ArrayLayout(signed(sum_width), tokens))`
        What to add, for each token.
    drain : :py:`In(1)`
        Read ``drain_row``; ``drained`` holds its sum from the next cycle on.
    drain_row : :py:`In(row_address_width)`
        Row to read.
    drained : :py:`Out(data.ArrayLayout(signed(sum_width), tokens))`
        Sums of the row read last.
    """

    prepare_row: Signal
    add: Signal
    clear: Signal
    row: Signal
    values: data.View
    drain: Signal
    drain_row: Signal
    drained: data.View

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        address = parameters.row_address_width
        totals = data.ArrayLayout(signed(parameters.sum_width), parameters.tokens)
        super().__init__({
            "prepare_row": In(address),
            "add": In(1),
            "clear": In(1),
            "row": In(address),
            "values": In(totals),
            "drain": In(1),
            "drain_row": In(address),
            "drained": Out(totals),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sums = sums = memory.Memory(
            shape=self.values.shape(),
            depth=1 << self.parameters.row_address_width,
            init=[],
        )
        write = sums.write_port()
        old = sums.read_port(transparent_for=(write,))  # so that the latest addition is seen
        out = sums.read_port()

        m.d.comb += [
            old.addr.eq(self.prepare_row),
            write.addr.eq(self.row),
            *(
                write.data[token].eq(Mux(self.clear, 0, old.data[token]) + self.values[token])
                for token in range(self.parameters.tokens)
            ),
            write.en.eq(self.add),
            out.addr.eq(self.drain_row),
            out.en.eq(self.drain),
            self.drained.eq(out.data),
        ]
        return m
