"""A stream's last stage, which says from a register whether it takes."""

from amaranth import Module, Mux, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SkidBuffer"]


class SkidBuffer(wiring.Component):
    """Hands on what comes in the same cycle; keeps one payload that is not taken then.

    ``i.ready`` comes straight from a register, so that what it holds does not hang on who takes.
    Latency is 0 cycles, throughput one payload a cycle.

    Parameters
    ----------
    shape : ShapeLike
        Of a payload.

    Members
    -------
    i : :py:`In(stream.Signature(shape))`
        Payloads in.
    o : :py:`Out(stream.Signature(shape))`
        The same payloads, in the same order.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        holds = Signal()
        kept = Signal.like(self.i.p, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(~holds),
            self.o.valid.eq(self.i.valid | holds),
            self.o.p.eq(Mux(holds, kept, self.i.p)),
        ]
        m.d.sync += holds.eq(self.o.valid & ~self.o.ready)
        with m.If(~holds):
            m.d.sync += kept.eq(self.i.p)
        return m
