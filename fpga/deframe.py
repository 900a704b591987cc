"""Undamaged frames out of the bytes of a line."""

from amaranth import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .line_crc import LineCrc
from .protocol import CRC_BYTES, ESCAPE, FLAG, INVERT, MAX_FRAME
from .replay import Replay, replay_layout

__all__ = ["Deframe"]


class Deframe(wiring.Component):
    """Collects a frame, checks it, and only then offers its body.

    Bytes come at least ten cycles apart, as on a line. A frame with a wrong checksum, of fewer than
    two bytes or of more than :data:`MAX_FRAME` leaves no trace but a count. What comes while a body
    is offered is lost; the host sends it again.

    Members
    -------
    i, i_valid : :py:`In(8)`, :py:`In(1)`
        A byte, and whether there is one.
    o : :py:`Out(stream.Signature(replay_layout(8)))`
        The body without its checksum; ``last`` ends it.
    damaged : :py:`Out(8)`
        Frames that were dropped, modulo 2^8.
    """

    i: Signal
    i_valid: Signal
    o: stream.Interface
    damaged: Signal

    def __init__(self) -> None:
        super().__init__({
            "i": In(8),
            "i_valid": In(1),
            "o": Out(stream.Signature(replay_layout(8))),
            "damaged": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = check = LineCrc()
        m.submodules.buffer = buffer = memory.Memory(shape=8, depth=MAX_FRAME, init=[])
        m.submodules.replay = replay = Replay(width=8, depth=MAX_FRAME)
        write, read = buffer.write_port(), buffer.read_port()
        count = Signal(range(MAX_FRAME + 1))
        escaped, begin = Signal(), Signal()

        m.d.comb += [
            write.addr.eq(count),
            write.data.eq(self.i ^ (escaped << INVERT.bit_length() - 1)),
            check.data.eq(write.data),
            check.enable.eq(write.en),
            check.clear.eq(begin),
            replay.first.eq(0),
            replay.count.eq(count - CRC_BYTES),
            replay.rounds.eq(1),
            read.addr.eq(replay.address),
            read.en.eq(replay.enable),
            replay.data.eq(read.data),
        ]
        wiring.connect(m, replay.o, wiring.flipped(self.o))
        with m.If(begin):
            m.d.sync += [count.eq(0), escaped.eq(0)]

        with m.FSM():
            with m.State("HUNT"):
                with m.If(self.i_valid & (self.i == FLAG)):
                    m.d.comb += begin.eq(1)
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                with m.If(self.i_valid & (self.i == FLAG)):
                    m.d.comb += begin.eq(1)  # a flag may end a frame and begin another
                    whole = check.match & ~escaped & (count >= CRC_BYTES + 2)
                    with m.If(whole):
                        m.d.comb += replay.start.eq(1)
                        m.next = "OFFER"
                    with m.Elif((count != 0) | escaped):
                        m.d.sync += self.damaged.eq(self.damaged + 1)
                with m.Elif(self.i_valid & (self.i == ESCAPE)):
                    m.d.sync += escaped.eq(1)
                with m.Elif(self.i_valid & (count == MAX_FRAME)):
                    m.d.sync += self.damaged.eq(self.damaged + 1)
                    m.next = "HUNT"
                with m.Elif(self.i_valid):
                    m.d.comb += write.en.eq(1)
                    m.d.sync += [count.eq(count + 1), escaped.eq(0)]
            with m.State("OFFER"):
                with m.If(~replay.busy):
                    m.next = "HUNT"

        return m
