"""Words of a memory as a stream, again and again if need be."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Replay", "replay_layout"]


def replay_layout(width: int) -> data.StructLayout:
    """Return a word, and whether it ends its round."""
    return data.StructLayout({"data": width, "last": 1})


class Replay(wiring.Component):
    """Reads rounds of consecutive words out of a memory and offers them, one a cycle.

    The first word is offered two cycles after ``start``, or three with a register; no cycle is lost
    between rounds.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words of the memory.
    rewind : bool
        Every round reads the same words; otherwise each goes on where the one before ended.
    max_rounds : int
        Most rounds that there can be.
    register : bool
        Whether words pass a register: block RAM is slow, and what follows may be so too.

    Members
    -------
    start : :py:`In(1)`
        Begin, and forget whatever was under way.
    stop : :py:`In(1)`
        Forget it.
    first, count, rounds
        With ``start``: the first word, words of a round, rounds; the last two at least 1.
    address, enable, data
        The memory's read port, which answers in the next cycle and then holds its answer.
    o : :py:`Out(stream.Signature(replay_layout(width)))`
        The words.
    busy : :py:`Out(1)`
        Whether any are left.
    """

    start: Signal
    stop: Signal
    first: Signal
    count: Signal
    rounds: Signal
    address: Signal
    enable: Signal
    data: Signal
    o: stream.Interface
    busy: Signal

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        rewind: bool = False,
        max_rounds: int = 1,
        register: bool = False,
    ) -> None:
        self.rewind, self.max_rounds, self.register = rewind, max_rounds, register
        super().__init__({
            "start": In(1),
            "stop": In(1),
            "first": In(range(depth)),
            "count": In(range(depth + 1)),
            "rounds": In(range(max_rounds + 1)),
            "address": Out(range(depth)),
            "enable": Out(1),
            "data": In(width),
            "o": Out(stream.Signature(replay_layout(width))),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left, rounds, last = Signal.like(self.count), Signal.like(self.rounds), Signal()
        first, count = Signal.like(self.first), Signal.like(self.count)
        advance, ends = Signal(), Signal()
        read = self.o
        if self.register:
            read = stream.Signature(self.o.payload.shape()).create(path=("read",))
            with m.If(~self.o.valid | self.o.ready):
                m.d.comb += read.ready.eq(1)
                m.d.sync += [self.o.valid.eq(read.valid), self.o.payload.eq(read.payload)]

        m.d.comb += [
            advance.eq(~read.valid | read.ready),
            ends.eq(left == 1),
            self.enable.eq(advance & (left != 0)),
            read.payload.data.eq(self.data),
            read.payload.last.eq(last),
            self.busy.eq((left != 0) | read.valid | self.o.valid),
        ]
        with m.If(advance):
            m.d.sync += [read.valid.eq(left != 0), last.eq(ends)]
        with m.If(self.enable):
            again = ends & (rounds > 1) & (self.max_rounds > 1)
            m.d.sync += left.eq(Mux(again, count, left - 1))
            m.d.sync += self.address.eq(self.address + 1)
            with m.If(ends):
                m.d.sync += rounds.eq(rounds - 1)
            if self.rewind:
                with m.If(again):
                    m.d.sync += self.address.eq(first)
        with m.If(self.start):
            m.d.sync += [self.address.eq(self.first), left.eq(self.count), rounds.eq(self.rounds)]
            m.d.sync += [first.eq(self.first), count.eq(self.count)]
            m.d.sync += [read.valid.eq(0), self.o.valid.eq(0)]
        with m.If(self.stop):
            m.d.sync += [left.eq(0), read.valid.eq(0), self.o.valid.eq(0)]

        return m
