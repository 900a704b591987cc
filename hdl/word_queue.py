"""A queue of words that says early whether it is full or empty."""

from amaranth import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["WordQueue", "queue_depth"]


def queue_depth(words: int) -> int:
    """Return the depth of a queue that takes as many words, and hands on one a cycle."""
    return max(3, words)


class WordQueue(wiring.Component):
    """First in, first out; both flags come straight from registers, and room is told of early.

    All lanes' flags decide together whether a beat is taken, which leaves no time to work them out:
    ``w_rdy`` is meant to go through a register. A word first waits in a register of its own, so
    that taking it reaches no further; it is there two cycles after it came. Throughput is one word
    a cycle from a depth of 3 on.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words that it takes at least while none is dropped, 2 or more.

    Members
    -------
    w_data : :py:`In(width)`
        A word.
    w_en : :py:`In(1)`
        Take it; only where ``w_rdy`` was set in the cycle before.
    w_rdy : :py:`Out(1)`
        Whether there is room for a word that comes in this cycle and another one in the next.
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
            "w_rdy": Out(1, init=1),
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
        newest = Signal(len(self.w_data), reset_less=True)
        waits, moves, full = Signal(), Signal(), Signal()
        level, head, tail = Signal(range(depth + 1)), Signal(range(depth)), Signal(range(depth))
        total = Signal(range(depth + 2))  # the one that waits included
        m.d.comb += [
            moves.eq(waits & ~full),
            write.addr.eq(tail),
            write.data.eq(newest),
            write.en.eq(moves),
            read.addr.eq(head),
            self.r_data.eq(read.data),
        ]
        m.d.sync += waits.eq(self.w_en | (waits & full))
        with m.If(self.w_en):
            m.d.sync += newest.eq(self.w_data)
        with m.If(moves):
            m.d.sync += tail.eq(Mux(tail == depth - 1, 0, tail + 1))
        with m.If(self.r_en):
            m.d.sync += head.eq(Mux(head == depth - 1, 0, head + 1))
        with m.If(moves & ~self.r_en):
            m.d.sync += level.eq(level + 1)
            m.d.sync += [full.eq(level == depth - 1), self.r_rdy.eq(1)]
        with m.If(self.r_en & ~moves):
            m.d.sync += level.eq(level - 1)
            m.d.sync += [self.r_rdy.eq(level != 1), full.eq(0)]
        with m.If(self.w_en & ~self.r_en):
            m.d.sync += [total.eq(total + 1), self.w_rdy.eq(total <= depth - 2)]
        with m.If(self.r_en & ~self.w_en):
            m.d.sync += [total.eq(total - 1), self.w_rdy.eq(total <= depth)]
        return m
