"""Row sums of one lane, in memory."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .parameters import LutParameters

__all__ = ["RowAccumulator", "row_address_width"]


def row_address_width(parameters: LutParameters) -> int:
    """Bits that tell a lane's rows of two layers; the bank is the top one."""
    return (parameters.layout.max_blocks - 1).bit_length() + 1


class RowAccumulator(wiring.Component):
    """A memory of row sums that takes one addition a cycle, to any row, again and again.

    ``prepare`` names the row one cycle before ``add`` adds to it. Consecutive additions to one row
    see each other. ``drain`` reads a row of the other layer at the same time.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    prepare_row : :py:`In(row_address_width(parameters))`
        Row of the next cycle's addition.
    add : :py:`In(1)`
        Add now.
    clear : :py:`In(1)`
        Start from zero instead of from what the row holds.
    row : :py:`In(row_address_width(parameters))`
        Row of this cycle's addition: what ``prepare_row`` was in the cycle before.
    value : :py:`In(signed(sum_width))`
        What to add.
    drain : :py:`In(1)`
        Read ``drain_row``; ``drained`` holds its sum from the next cycle on.
    drain_row : :py:`In(row_address_width(parameters))`
        Row to read.
    drained : :py:`Out(signed(sum_width))`
        Sum of the row read last.
    """

    prepare_row: Signal
    add: Signal
    clear: Signal
    row: Signal
    value: Signal
    drain: Signal
    drain_row: Signal
    drained: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        address, total = row_address_width(parameters), signed(parameters.sum_width)
        super().__init__({
            "prepare_row": In(address),
            "add": In(1),
            "clear": In(1),
            "row": In(address),
            "value": In(total),
            "drain": In(1),
            "drain_row": In(address),
            "drained": Out(total),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sums = sums = memory.Memory(
            shape=signed(self.parameters.sum_width),
            depth=1 << row_address_width(self.parameters),
            init=[],
        )
        write = sums.write_port()
        old = sums.read_port(transparent_for=(write,))  # so that the latest addition is seen
        out = sums.read_port()

        m.d.comb += [
            old.addr.eq(self.prepare_row),
            write.addr.eq(self.row),
            write.data.eq(Mux(self.clear, 0, old.data) + self.value),
            write.en.eq(self.add),
            out.addr.eq(self.drain_row),
            out.en.eq(self.drain),
            self.drained.eq(out.data),
        ]
        return m
