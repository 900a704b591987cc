# amaranth: UnusedElaboratable=no
"""Row sums in memory: additions in a row to one row, clearing, and reading at the same time."""

import random

import pytest

from lutra.hdl.accumulator import RowAccumulator, prepare_cycles


def _wrapped(number, width):
    return (number + (1 << width - 1) & (1 << width) - 1) - (1 << width - 1)


@pytest.mark.parametrize("name", ["int2", "int3", "int4", "bcq1"])
@pytest.mark.parametrize("tokens", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 2, 8])
@pytest.mark.parametrize("chance", [1.0, 0.6])
def test_random_additions(hdl, rows, chance, tokens, name):
    """Few rows, so that neighbouring additions often meet; sums wrap as two's complement does."""
    parameters = hdl.parameters((name,), max_rows=16, tokens=tokens, scale_width=1)
    interval = parameters.sum_interval
    ahead = prepare_cycles(parameters)
    expected = {"int2": (2, 1), "int3": (3, 2), "int4": (4, 3), "bcq1": (1, 1)}
    assert (interval, ahead) == expected[name]
    dut = RowAccumulator(parameters=parameters)
    width = parameters.sum_width
    rng = random.Random(rows)
    sums = {row: [0] * tokens for row in range(rows)}
    steps = [
        (
            rng.randrange(rows),
            index > 1 and index % interval == 0 and rng.random() < chance,
            rng.random() < 0.1,
            [rng.randrange(-(1 << width - 1), 1 << width - 1) for _ in range(tokens)],
        )
        for index in range(300)
    ]

    def drained(ctx):
        return [ctx.get(total) for total in dut.drained]

    async def bench(ctx):
        read = newest = None
        for index, (row, add, clear, values) in enumerate(steps):
            following = steps[min(index + 1, len(steps) - 1)]
            ctx.set(dut.prepare_row, steps[min(index + ahead, len(steps) - 1)][0])
            ctx.set(dut.clear, following[2])
            ctx.set(dut.row, row)
            ctx.set(dut.add, add)
            ctx.set(dut.values, values)
            drains = rng.random() < 0.5
            asked = rng.randrange(rows)
            ctx.set(dut.drain, drains)
            ctx.set(dut.drain_row, asked)
            before = sums[asked]
            await ctx.tick()
            if add:
                old = [0] * tokens if clear else sums[row]
                sums[row] = [_wrapped(a + b, width) for a, b in zip(old, values, strict=True)]
            if drains:  # a row is not read in the cycle of its last addition
                read, newest = newest, None if add and asked == row else before
            if read is not None:
                assert drained(ctx) == read

        ctx.set(dut.add, 0)
        for row in range(rows):
            ctx.set(dut.drain, 1)
            ctx.set(dut.drain_row, row)
            await ctx.tick().repeat(2)
            assert drained(ctx) == sums[row]

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    ("lanes", "rows", "width"),
    [(4, 1, 1), (4, 4, 1), (4, 5, 2), (4, 16, 3), (4, 17, 4), (5, 11, 3)],
)
def test_address_width(hdl, lanes, rows, width):
    parameters = hdl.parameters(lanes=lanes, max_rows=rows)
    assert parameters.row_address_width == width
    assert len(RowAccumulator(parameters=parameters).row) == width
