# amaranth: UnusedElaboratable=no
"""The lanes' queue: order, and both flags as soon as they change."""

import random

import pytest

from lutra.hdl.word_queue import WordQueue


@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.9, 0.3), (0.3, 0.9), (1.0, 1.0)])
@pytest.mark.parametrize("depth", [2, 3, 4, 7])
def test_first_in_first_out(hdl, depth, chances):
    dut = WordQueue(width=8, depth=depth)
    rng = random.Random(depth)
    held, seen = [], set()

    async def bench(ctx):
        for _ in range(400):
            seen.add(len(held))
            assert ctx.get(dut.w_rdy) == (len(held) < depth)
            assert ctx.get(dut.r_rdy) == (len(held) > 0)
            if held:
                assert ctx.get(dut.r_data) == held[0]
            word = rng.getrandbits(8)
            write = len(held) < depth and rng.random() < chances[0]
            read = len(held) > 0 and rng.random() < chances[1]
            ctx.set(dut.w_data, word)
            ctx.set(dut.w_en, write)
            ctx.set(dut.r_en, read)
            await ctx.tick()
            if read:
                held.pop(0)
            if write:
                held.append(word)

    hdl.simulate(dut, bench)
    if chances[0] == chances[1] < 1:
        assert seen == set(range(depth + 1))
