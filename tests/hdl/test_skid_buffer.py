# amaranth: UnusedElaboratable=no
"""A stream's last stage: nothing is lost, repeated, put out of order, or waits for nothing."""

import random

import pytest

from lutra.hdl.skid_buffer import SkidBuffer


@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.9, 0.2), (0.2, 0.9), (1.0, 1.0)])
def test_in_order(hdl, chances):
    dut, rng = SkidBuffer(8), random.Random(1)
    sent, received = [], []

    async def bench(ctx):
        word = None
        for cycle in range(300):
            if word is None and rng.random() < chances[0]:
                word = rng.getrandbits(8)
            ctx.set(dut.i.valid, word is not None)
            ctx.set(dut.i.payload, word or 0)
            ready = ctx.get(dut.i.ready)
            ctx.set(dut.o.ready, rng.random() < chances[1])
            assert ctx.get(dut.i.ready) == ready, "hangs on who takes"
            assert ready == (len(sent) == len(received))
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                received.append(ctx.get(dut.o.payload))
            if word is not None and ready:
                sent.append(word)
                word = None
            assert received == sent[: len(received)]
            assert len(sent) - len(received) in (0, 1)
            if chances == (1.0, 1.0):
                assert len(received) == cycle + 1
            await ctx.tick()

    hdl.simulate(dut, bench)
    assert len(received) > 40
