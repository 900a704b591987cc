# amaranth: UnusedElaboratable=no
"""The lanes' queue: order, and both flags as soon as they change."""

import random

import pytest

from lutra.hdl.word_queue import WordQueue, queue_depth


@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.9, 0.3), (0.3, 0.9), (1.0, 1.0)])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("depth", [3, 4, 7])
def test_first_in_first_out(hdl, depth, late, chances):
    """Words come where there is room, or where there was in the cycle before."""
    dut = WordQueue(width=8, depth=depth)
    rng = random.Random(depth)
    held, seen = [], set()  # words with the cycle in which each came

    async def bench(ctx):
        had_room = False
        for cycle in range(400):
            seen.add(len(held))
            room = ctx.get(dut.w_rdy)
            # One that came in the cycle before does not count yet.
            assert room == (sum(came < cycle - 1 for _, came in held) < depth)
            there = bool(held) and held[0][1] <= cycle - 3
            assert ctx.get(dut.r_rdy) == there
            if there:
                assert ctx.get(dut.r_data) == held[0][0]
            word = rng.getrandbits(8)
            write = (had_room if late else room) and rng.random() < chances[0]
            read = there and rng.random() < chances[1]
            ctx.set(dut.w_data, word)
            ctx.set(dut.w_en, write)
            ctx.set(dut.r_en, read)
            await ctx.tick()
            had_room = room
            if read:
                held.pop(0)
            if write:
                held.append((word, cycle))

    hdl.simulate(dut, bench)
    if chances[0] == chances[1] < 1:
        assert seen == set(range(depth + 2 + late))


@pytest.mark.parametrize("words", [2, 3, 16])
def test_a_word_every_cycle(hdl, words):
    dut = WordQueue(width=8, depth=queue_depth(words))

    async def bench(ctx):
        had_room = False
        for cycle in range(50):
            ctx.set(dut.w_en, had_room)
            ctx.set(dut.r_en, ctx.get(dut.r_rdy))
            assert cycle < 4 or ctx.get(dut.r_rdy)
            assert cycle < 1 or had_room
            had_room = ctx.get(dut.w_rdy)
            await ctx.tick()

    hdl.simulate(dut, bench)
