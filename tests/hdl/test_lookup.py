# amaranth: UnusedElaboratable=no
"""Look-ups from tables that the test fills itself: addresses, signs, latency, throughput."""

import random

import pytest

from lutra.formats import Numerics
from lutra.hdl.lookup import Lookup, slice_address_width

INT8 = Numerics(activation="int8", act_width=8)


@pytest.mark.parametrize("tile_slices", [1, 2, 3])
@pytest.mark.parametrize(("table", "mu"), [("full", 1), ("full", 3), ("half", 2), ("half", 5)])
def test_a_new_sum_every_cycle(hdl, table, mu, tile_slices):
    """Random entries, so that every address and every sign is told from the others."""
    parameters = hdl.parameters(
        ("int4",), INT8, table=table, mu=mu, tile_slices=tile_slices, group_sizes=(8,)
    )
    dut = Lookup(parameters=parameters)
    rng = random.Random(mu)
    peak = mu * 128
    slices = [bank << len(dut.slice) - 1 | s for bank in range(2) for s in range(tile_slices)]
    contents = {
        (index, entry): [rng.randint(-peak, peak) for _ in range(parameters.tables)]
        for index in slices
        for entry in range(parameters.entries)
    }

    def looked_up(index, key):
        total = 0
        for number in range(parameters.tables):
            part = key >> number * mu & (1 << mu) - 1
            if table == "half" and part >> (mu - 1):
                part ^= (1 << mu) - 1
                total -= contents[index, part][number]
            else:
                total += contents[index, part][number]
        return total

    async def bench(ctx):
        for (index, entry), values in contents.items():
            ctx.set(dut.write, {"enable": 1, "slice": index, "entry": entry, "values": values})
            await ctx.tick()
        ctx.set(dut.write, {"enable": 0, "slice": slices[0], "entry": 0, "values": []})
        wanted = [(rng.choice(slices), rng.getrandbits(8)) for _ in range(60)]
        for position in range(len(wanted) + dut.latency):
            index, key = wanted[min(position, len(wanted) - 1)]
            ctx.set(dut.slice, index)
            ctx.set(dut.key, key)
            if position >= dut.latency:
                asked = wanted[position - dut.latency]
                assert ctx.get(dut.sum) == looked_up(*asked), asked
            await ctx.tick()

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    ("width", "mu", "latency"), [(8, 8, 1), (8, 4, 2), (8, 2, 2), (8, 1, 3), (16, 1, 3), (24, 4, 3)]
)
def test_latency(hdl, width, mu, latency):
    parameters = hdl.parameters(("int4",), INT8, width=width, mu=mu, group_sizes=(width,))
    assert Lookup(parameters=parameters).latency == latency


@pytest.mark.parametrize(("tile_slices", "width"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4)])
def test_slice_address(hdl, tile_slices, width):
    parameters = hdl.parameters(("int4",), tile_slices=tile_slices, group_sizes=())
    assert slice_address_width(parameters) == width
