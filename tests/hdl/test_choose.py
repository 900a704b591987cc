# amaranth: UnusedElaboratable=no
"""One of several values by number, or by a bit."""

import random

import pytest
from amaranth import Module, Signal, signed

from lutra.hdl.choose import choose, choose_by_bit


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16])
def test_every_number(hdl, count):
    m = Module()
    values = [Signal(signed(6), name=f"value_{index}") for index in range(count)]
    number, o = Signal(range(max(count, 2))), Signal(signed(8))
    by_bit = Signal(signed(6))
    m.d.comb += o.eq(choose(values, number))
    m.d.comb += by_bit.eq(choose_by_bit(values, (1 << number)[:count]))
    rng = random.Random(count)

    async def bench(ctx):
        for _ in range(4):
            given = rng.sample(range(-32, 32), count)
            for value, one in zip(values, given, strict=True):
                ctx.set(value, one)
            for index, one in enumerate(given):
                ctx.set(number, index)
                await ctx.delay(1e-9)
                assert ctx.get(o) == ctx.get(by_bit) == one, f"number {index}"

    hdl.simulate(m, bench, clocked=False)


def test_of_one_it_is_the_value():
    value = Signal(4)
    assert choose([value], Signal(1)) is value
