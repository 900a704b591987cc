"""Bodies made into frames for a line."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .line_crc import LineCrc
from .protocol import CRC_BYTES, ESCAPE, FLAG, INVERT
from .replay import replay_layout

__all__ = ["Enframe"]


class Enframe(wiring.Component):
    """Puts flags around each body and a checksum behind it, and escapes what looks like a flag.

    Members
    -------
    i : :py:`In(stream.Signature(replay_layout(8)))`
        Bodies; ``last`` ends each.
    o : :py:`Out(stream.Signature(8))`
        Bytes of frames.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({
            "i": In(stream.Signature(replay_layout(8))),
            "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = check = LineCrc()
        index = Signal(range(CRC_BYTES))
        plain, offered, taken, escaped = Signal(8), Signal(), Signal(), Signal()

        special = (plain == FLAG) | (plain == ESCAPE)
        m.d.comb += check.data.eq(self.i.payload.data)
        with m.If(offered):
            # A byte that is escaped goes out in two steps, and is taken in the second.
            m.d.comb += [self.o.valid.eq(1), taken.eq(self.o.ready & (escaped | ~special))]
            m.d.comb += self.o.payload.eq(Mux(escaped, plain ^ INVERT, Mux(special, ESCAPE, plain)))
            with m.If(self.o.ready):
                m.d.sync += escaped.eq(special & ~escaped)

        with m.FSM():
            with m.State("BEGIN"):
                m.d.comb += [self.o.payload.eq(FLAG), self.o.valid.eq(self.i.valid)]
                m.d.comb += check.clear.eq(1)
                with m.If(self.i.valid & self.o.ready):
                    m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += plain.eq(self.i.payload.data)
                m.d.comb += offered.eq(self.i.valid & ~check.busy)
                m.d.comb += [self.i.ready.eq(taken), check.enable.eq(taken)]
                with m.If(taken & self.i.payload.last):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += [plain.eq(check.crc.word_select(index, 8)), offered.eq(~check.busy)]
                with m.If(taken):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == CRC_BYTES - 1):
                        m.d.sync += index.eq(0)
                        m.next = "END"
            with m.State("END"):
                m.d.comb += [self.o.payload.eq(FLAG), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "BEGIN"

        return m
