"""A queue of words that says early whether it is full or empty."""

from amaranth import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["WordQueue"]


class WordQueue(wiring.Component):
    """First in, first out; both flags come straight from registers.

    All lanes' flags decide together whether a beat is taken, which leaves no time to work them out.
    A word is there in the cycle after it came; throughput is one word a cycle.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words that it holds, 2 or more.

    Members
    -------
    w_data : :py:`In(width)`
        A word.
    w_en : :py:`In(1)`
        Take it; only while ``w_rdy`` is set.
    w_rdy : :py:`Out(1)`
        Whether there is room.
    r_data : :py:`Out(width)`
        The oldest word.
    r_en : :py:`In(1)`
        Drop it; only while ``r_rdy`` is set.
    r_rdy : :py:`Out(1)`
        Whether there is one.
    """

    w_data: Signal
    w_en: Signal
    w_rdy: Signal
    r_data: Signal
    r_en: Signal
    r_rdy: Signal

    def __init__(self, *, width: int, depth: int) -> None:
        self.depth = depth
        super().__init__({
            "w_data": In(width),
            "w_en": In(1),
            "w_rdy": Out(1),
            "r_data": Out(width),
            "r_en": In(1),
            "r_rdy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.depth
        store = memory.Memory(shape=len(self.w_data), depth=depth, init=[])
        m.submodules.store = store
        write, read = store.write_port(), store.read_port(domain="comb")
        level, head, tail = Signal(range(depth + 1)), Signal(range(depth)), Signal(range(depth))
        full = Signal()
        m.d.comb += [
            write.addr.eq(tail),
            write.data.eq(self.w_data),
            write.en.eq(self.w_en),
            read.addr.eq(head),
            self.r_data.eq(read.data),
            self.w_rdy.eq(~full),
        ]
        with m.If(self.w_en):
            m.d.sync += tail.eq(Mux(tail == depth - 1, 0, tail + 1))
        with m.If(self.r_en):
            m.d.sync += head.eq(Mux(head == depth - 1, 0, head + 1))
        with m.If(self.w_en & ~self.r_en):
            m.d.sync += level.eq(level + 1)
            m.d.sync += [full.eq(level == depth - 1), self.r_rdy.eq(1)]
        with m.If(self.r_en & ~self.w_en):
            m.d.sync += level.eq(level - 1)
            m.d.sync += [self.r_rdy.eq(level != 1), full.eq(0)]
        return m
