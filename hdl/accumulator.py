"""Row sums of one lane, in memory."""

from typing import Any

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .memory_attributes import NO_COLLISIONS
from .parameters import EngineParameters
from .pipeline import delay

__all__ = ["RowAccumulator", "prepare_cycles"]


def prepare_cycles(parameters: EngineParameters) -> int:
    """Return the cycles from naming a row to an addition to it.

    Up to three, as long as the addition before has been written by then: memory alone takes most of
    a cycle, and what stands behind it is the block RAM's own register if nothing clears it.
    """
    return max(1, min(3, parameters.sum_interval - 1))


class RowAccumulator(wiring.Component):
    """A memory of row sums that takes one addition a token a cycle, to any row, again and again.

    ``prepare_row`` names the row :func:`prepare_cycles` before ``add`` adds to it. Additions to one
    row see each other, ``parameters.sum_interval`` cycles after one another or more. ``drain``
    reads a row of the other layer at the same time: memory gives it in the next cycle, ``drained``
    after the ``drain`` behind that, so that the way from memory has a cycle of its own.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    prepare_row : :py:`In(row_address_width)`
        Row of the addition in ``prepare_cycles``.
    clear : :py:`In(1)`
        Let that of the next cycle start from zero instead of from what the row holds.
    add : :py:`In(1)`
        Add now.
    row : :py:`In(row_address_width)`
        Row of this cycle's addition: what ``prepare_row`` was ``prepare_cycles`` ago.
    values : :py:`In(data.ArrayLayout(signed(sum_width), tokens))`
        What to add, for each token.
    drain : :py:`In(1)`
        Read ``drain_row``, and move what was read before to ``drained``.
    drain_row : :py:`In(row_address_width)`
        Row to read.
    drained : :py:`Out(data.ArrayLayout(signed(sum_width), tokens))`
        Sums of the row read last but one, from the cycle after ``drain`` on.
    """

    prepare_row: Signal
    clear: Signal
    add: Signal
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
            "clear": In(1),
            "add": In(1),
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
            # Rows that leave are of the other layer.
            attrs=NO_COLLISIONS if self.parameters.sum_interval > 1 else None,
        )
        write = sums.write_port()
        out = sums.read_port()
        old = self._old(m, sums, write)

        m.d.comb += [
            write.addr.eq(self.row),
            *(
                write.data[token].eq(old[token] + self.values[token])
                for token in range(self.parameters.tokens)
            ),
            write.en.eq(self.add),
            out.addr.eq(self.drain_row),
            out.en.eq(self.drain),
        ]
        near = Signal.like(out.data, reset_less=True)
        with m.If(self.drain):
            m.d.sync += near.eq(out.data)
        m.d.comb += self.drained.eq(near)
        return m

    def _old(self, m: Module, sums: memory.Memory, write: memory.WritePort) -> Any:
        """Read what is to be added to."""
        old = Signal(self.values.shape(), reset_less=True)
        if self.parameters.sum_interval > 1:
            # The addition before has been written, and the register's reset clears for nothing.
            ahead = prepare_cycles(self.parameters)
            read = sums.read_port(domain="sync" if ahead > 1 else "comb")
            m.d.comb += read.addr.eq(self.prepare_row)
            kept = delay(m, read.data, 1, name="kept") if ahead > 2 else read.data.as_value()
            m.d.sync += old.eq(Mux(self.clear, 0, kept))
            return old
        clear = Signal(reset_less=True)
        latest = sums.read_port(transparent_for=(write,))
        m.d.sync += clear.eq(self.clear)
        m.d.comb += latest.addr.eq(self.prepare_row)
        m.d.comb += old.eq(Mux(clear, 0, latest.data.as_value()))
        return old
