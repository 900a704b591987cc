# amaranth: UnusedElaboratable=no
"""Row sums in memory: additions in a row to one row, clearing, and reading at the same time."""

import random

import pytest

from lutra.hdl.accumulator import RowAccumulator, row_address_width


@pytest.mark.parametrize("rows", [1, 2, 8])
@pytest.mark.parametrize("chance", [1.0, 0.6])
def test_random_additions(hdl, rows, chance):
    """Few rows, so that neighbouring additions often meet; sums wrap as two's complement does."""
    dut = RowAccumulator(parameters=hdl.parameters(max_rows=16))
    width = len(dut.value)
    rng = random.Random(rows)
    sums = dict.fromkeys(range(rows), 0)
    steps = [
        (
            rng.randrange(rows),
            rng.random() < chance,
            rng.random() < 0.1,
            rng.randrange(-(1 << width - 1), 1 << width - 1),
        )
        for _ in range(300)
    ]

    async def bench(ctx):
        read = None
        for index, (row, add, clear, value) in enumerate(steps):
            ctx.set(dut.prepare_row, steps[min(index + 1, len(steps) - 1)][0])
            ctx.set(dut.row, row)
            ctx.set(dut.add, add and index > 0)
            ctx.set(dut.clear, clear)
            ctx.set(dut.value, value)
            drains = rng.random() < 0.5
            asked = rng.randrange(rows)
            ctx.set(dut.drain, drains)
            ctx.set(dut.drain_row, asked)
            before = sums[asked]
            await ctx.tick()
            if add and index > 0:
                total = (0 if clear else sums[row]) + value
                sums[row] = (total + (1 << width - 1) & (1 << width) - 1) - (1 << width - 1)
            if drains and not (add and asked == row):
                read = before  # a row is not read in the cycle of its last addition
            elif drains:
                read = None
            if read is not None:
                assert ctx.get(dut.drained) == read

        ctx.set(dut.add, 0)
        for row in range(rows):
            ctx.set(dut.drain, 1)
            ctx.set(dut.drain_row, row)
            await ctx.tick()
            assert ctx.get(dut.drained) == sums[row]

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    ("lanes", "rows", "width"),
    [(4, 1, 1), (4, 4, 1), (4, 5, 2), (4, 16, 3), (4, 17, 4), (5, 11, 3)],
)
def test_address_width(hdl, lanes, rows, width):
    parameters = hdl.parameters(lanes=lanes, max_rows=rows)
    assert row_address_width(parameters) == width
