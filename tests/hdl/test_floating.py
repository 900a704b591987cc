# amaranth: UnusedElaboratable=no
"""Steps of floating-point arithmetic, for every value of small widths."""

import pytest
from amaranth import Module, Signal

from lutra.hdl.floating import (
    normalize,
    normalize_cycles,
    round_half_even,
    shift_right_sticky,
)


@pytest.mark.parametrize("levels", [None, 1, 2, 3])
@pytest.mark.parametrize("width", range(1, 10))
def test_normalize(hdl, width, levels):
    m = Module()
    i = Signal(width)
    shifted, count = normalize(m, i, name="normal", levels=levels)
    m.d.sync += Signal(name="clocked").eq(1)
    cycles = 0 if levels is None else normalize_cycles(width, levels=levels)
    assert cycles == (0 if levels is None else max(0, -(-(width - 1).bit_length() // levels) - 1))
    o, places = Signal(width), Signal(8)
    m.d.comb += [o.eq(shifted), places.eq(count)]
    steps = (width - 1).bit_length()

    async def bench(ctx):
        for value in range(1 << width):
            ctx.set(i, value)
            for _ in range(cycles):
                await ctx.tick()
            if value:
                expected = width - value.bit_length()
                assert ctx.get(places) == expected
                assert ctx.get(o) == value << expected
            else:
                assert ctx.get(places) == (1 << steps) - 1
                assert ctx.get(o) == 0

    hdl.simulate(m, bench)


@pytest.mark.parametrize("places_width", [1, 2, 3, 4])
@pytest.mark.parametrize("width", range(1, 7))
def test_shift_right_sticky(hdl, width, places_width):
    m = Module()
    i, places = Signal(width), Signal(places_width)
    shifted, sticky = shift_right_sticky(m, i, places, name="shift")
    o, lost = Signal(width), Signal()
    m.d.comb += [o.eq(shifted), lost.eq(sticky)]

    async def bench(ctx):
        for value in range(1 << width):
            for count in range(1 << places_width):
                ctx.set(i, value)
                ctx.set(places, count)
                await ctx.tick()
                assert ctx.get(o) == value >> count
                assert ctx.get(lost) == (value & (1 << count) - 1 != 0), (value, count)

    hdl.simulate(m, bench)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_round_half_even(hdl, width):
    """As Python rounds the number with four more bits to an integer."""
    m = Module()
    i = Signal(width + 4)
    o = Signal(width + 1)
    m.d.comb += o.eq(round_half_even(i[4:], i[3], i[:3].any()))

    async def bench(ctx):
        for value in range(1 << width + 4):
            ctx.set(i, value)
            assert ctx.get(o) == round(value / 16)

    hdl.simulate(m, bench, clocked=False)
