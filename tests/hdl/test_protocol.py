# amaranth: UnusedElaboratable=no
"""Proof that the protocol checker can fail: components that break the rules are caught."""

from typing import ClassVar

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutra.formats import Numerics
from lutra.sim import random_matrix
from lutra.sim.amaranth_driver import simulate_streams
from lutra.sim.handshake import ProtocolError, Sink, Source, StallPattern


class Register(wiring.Component):
    """A register of a stream, which does it right; the mutants below do not."""

    i: stream.Interface
    o: stream.Interface

    BREAKS: ClassVar[str | None] = None

    def __init__(self):
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        """Build the register, and what is wrong with it."""
        m = Module()
        with m.If(~self.o.valid | self.o.ready):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        self.spoil(m)
        return m

    def spoil(self, m):
        """Do nothing wrong."""


class DropsValid(Register):
    """Forgets an offer that is not taken at once."""

    BREAKS = r"^Stream o dropped valid before the transfer$"

    def spoil(self, m):
        """Take the offer back."""
        with m.If(self.o.valid & ~self.o.ready):
            m.d.sync += self.o.valid.eq(0)


class ChangesPayload(Register):
    """Shows the newest payload, taken or not."""

    BREAKS = r"^Stream o changed its payload from 0x[0-9a-f]+ to 0x[0-9a-f]+ before the transfer$"

    def spoil(self, m):
        """Offer something else."""
        with m.If(self.o.valid & ~self.o.ready):
            m.d.sync += self.o.payload.eq(self.o.payload + 1)


def _through(dut, chance):
    payloads = [7 * index & 0xFF for index in range(50)]
    sink = Sink(StallPattern(chance, 2))
    simulate_streams(
        dut,
        sources={"i": Source(payloads, StallPattern(0.3, 1))},
        sinks={"o": sink},
        expected={"o": len(payloads)},
    )
    assert sink.received == payloads


@pytest.mark.parametrize("chance", [0.0, 0.5])
def test_a_right_register_passes(chance):
    _through(Register(), chance)


@pytest.mark.parametrize("mutant", [DropsValid, ChangesPayload])
def test_mutants_are_caught(mutant):
    with pytest.raises(ProtocolError, match=mutant.BREAKS):
        _through(mutant(), 0.5)
    _through(mutant(), 0.0)  # a sink that is always ready cannot tell


def test_engine_bench_checks_the_protocol(hdl):
    """The bench of whole engines has the same checker: an engine that drops an offer is caught."""
    parameters = hdl.parameters(("int2",), Numerics(activation="int8", act_width=8))
    inner = hdl.EngineBench(parameters).engine

    class Dropping(wiring.Component):
        i_x: stream.Interface
        i_w: stream.Interface
        o: stream.Interface
        clear: Signal
        status: data.View

        def __init__(self):
            super().__init__(inner.signature)

        def elaborate(self, platform):
            m = Module()
            m.submodules.inner = inner
            blink = Signal()
            m.d.sync += blink.eq(~blink)
            for name in ("i_x", "i_w"):
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(inner, name))
            m.d.comb += [
                inner.clear.eq(self.clear),
                self.status.eq(inner.status),
                self.o.payload.eq(inner.o.payload),
                self.o.valid.eq(inner.o.valid & blink),
                inner.o.ready.eq(self.o.ready & blink),
            ]
            return m

    matrix = random_matrix("int2", 12, 8, 8, seed=1)
    work = [(matrix, np.ones((1, 8), dtype=np.int8))]
    hdl.EngineBench(parameters, engine=Dropping()).run(work)
    with pytest.raises(ProtocolError, match=DropsValid.BREAKS):
        hdl.EngineBench(parameters, engine=Dropping()).run(work, stalls=(0, 0, 0.5), seed=1)
