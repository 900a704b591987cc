"""A queue of words that says early whether it is full or empty."""

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["WordQueue", "queue_depth"]


def queue_depth(words: int) -> int:
    """Return the depth of a queue that takes as many words.

    From 4 on it goes on at once after a wait; smaller ones have a word more for that.
    """
    return max(words, min(words + 1, 4))


class WordQueue(wiring.Component):
    """First in, first out; both flags come straight from registers, and room is told of early.

    All lanes' flags decide together whether a beat is taken, and all lanes take it: there is a
    register for what they decide, and one in each lane for what it takes. A word then waits in
    another one for its place in memory, and is there three cycles after it came. Throughput is one
    word a cycle.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words that it takes at least while none is dropped, 3 or more.

    Members
    -------
    w_data : :py:`In(width)`
        A word.
    w_en : :py:`In(1)`
        Take it; only where ``w_rdy`` was set in the cycle before.
    w_rdy : :py:`Out(1)`
        Whether there is room for a word in this cycle, and for another one in the next.
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
            "w_rdy": Out(1, init=1),  # type: ignore[call-arg]
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
        # One that came in the cycle before, and one behind that.
        arrived, newest = (Signal(len(self.w_data), reset_less=True) for _ in range(2))
        has_arrived, waits, stays, moves, full = (Signal() for _ in range(5))
        came = Signal()  # ... in the cycle before: only then it counts
        level, head, tail = Signal(range(depth + 1)), Signal(range(depth)), Signal(range(depth))
        total = Signal(range(depth + 3))
        m.d.comb += [
            moves.eq(waits & ~full),
            stays.eq(has_arrived & waits & full),
            write.addr.eq(tail),
            write.data.eq(newest),
            write.en.eq(moves),
            read.addr.eq(head),
            self.r_data.eq(read.data),
        ]
        m.d.sync += [
            came.eq(self.w_en),
            has_arrived.eq(self.w_en | stays),
            waits.eq(has_arrived | (waits & full)),
        ]
        with m.If(~stays):
            m.d.sync += arrived.eq(self.w_data)
        with m.If(~waits | ~full):
            m.d.sync += newest.eq(arrived)
        with m.If(moves):
            m.d.sync += tail.eq(_following(tail, depth))
        with m.If(self.r_en):
            m.d.sync += head.eq(_following(head, depth))
        with m.If(moves ^ self.r_en):
            m.d.sync += level.eq(level + Mux(moves, 1, -1))
            m.d.sync += full.eq(moves & (level == depth - 1))
            m.d.sync += self.r_rdy.eq(moves | (level != 1))
        # Words of two cycles are under way to here when this is seen: there is room for both.
        with m.If(came ^ self.r_en):
            m.d.sync += total.eq(total + Mux(came, 1, -1))
            m.d.sync += self.w_rdy.eq(Mux(came, total <= depth - 2, total <= depth))
        return m


def _following(place: Signal, depth: int) -> Value:
    """Return the place in memory behind another one."""
    wraps = depth == 1 << len(place)
    return place + 1 if wraps else Mux(place == depth - 1, 0, place + 1)
