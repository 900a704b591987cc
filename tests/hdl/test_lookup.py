# amaranth: UnusedElaboratable=no
"""Look-ups from tables that the test fills itself: addresses, signs, latency, throughput."""

import random

import pytest
from amaranth import Shape

from lutra.formats import Numerics
from lutra.hdl import TermOptions
from lutra.hdl.lookup import Lookup, entries_layout, entry_offset, lut_options

INT8 = Numerics(activation="int8", act_width=8)


@pytest.mark.parametrize("banks", [1, 2])
@pytest.mark.parametrize("tile_slices", [1, 2, 3])
@pytest.mark.parametrize(
    ("table", "mu"),
    [("full", 1), ("full", 3), ("half", 2), ("half", 5), ("block", 2), ("block", 3)],
)
def test_a_new_sum_every_cycle(hdl, table, mu, tile_slices, banks):
    """Random entries, so that every address and every sign is told from the others."""
    parameters = hdl.parameters(
        ("int4",), INT8, table=table, mu=mu, banks=banks, tile_slices=tile_slices, group_sizes=(8,)
    )
    dut = Lookup(parameters=parameters)
    tables, entries = -(-8 // mu), 1 << (mu - 1 if table == "half" else mu)
    rng = random.Random(mu)
    # Sums of a whole slice fit; a table of which less is used has smaller entries.
    peak, offset = mu * 128 * 8 // (tables * mu), entry_offset(parameters)
    slices = [bank << len(dut.slice) - 1 | s for bank in range(banks) for s in range(tile_slices)]
    contents = {
        (index, entry): [rng.randint(-peak, peak - 1) for _ in range(tables)]
        for index in slices
        for entry in range(entries)
    }

    def looked_up(index, key):
        total = 0
        for number in range(tables):
            part = key >> number * mu & (1 << mu) - 1
            if table == "half" and part >> (mu - 1):
                part ^= (1 << mu) - 1
                total -= contents[index, part][number]
            else:
                total += contents[index, part][number]
        return total

    async def bench(ctx):
        for (index, entry), values in contents.items():
            ctx.set(dut.enable, 1)
            ctx.set(dut.write_slice, index)
            ctx.set(dut.entry, entry)
            ctx.set(dut.entries, [value + offset for value in values])
            await ctx.tick()
        ctx.set(dut.enable, 0)
        ctx.set(dut.entries, [77] * tables)
        wanted = [(rng.choice(slices), rng.getrandbits(8)) for _ in range(60)]
        for position in range(len(wanted) + dut.latency):
            index, key = wanted[min(position, len(wanted) - 1)]
            other = rng.randrange(2) << len(dut.slice) - 1 if banks == 1 else 0
            ctx.set(dut.slice, index | other)
            ctx.set(dut.key, key)
            if position >= dut.latency:
                asked = wanted[position - dut.latency]
                assert ctx.get(dut.sum) == looked_up(*asked), asked
            await ctx.tick()

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    ("width", "mu", "levels", "latency"),
    [
        (8, 8, 2, 1),
        (8, 4, 2, 2),
        (8, 2, 2, 2),
        (8, 2, 1, 3),
        (8, 1, 2, 3),
        (8, 1, 1, 4),
        (8, 1, 3, 2),
        (16, 1, 2, 3),
        (24, 4, 2, 3),
    ],
)
def test_latency(hdl, width, mu, levels, latency):
    parameters = hdl.parameters(
        ("int4",), INT8, width=width, mu=mu, adder_levels=levels, group_sizes=(width,)
    )
    assert Lookup(parameters=parameters).latency == latency


@pytest.mark.parametrize(("tile_slices", "width"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4)])
def test_slice_address(hdl, tile_slices, width):
    parameters = hdl.parameters(("int4",), tile_slices=tile_slices, group_sizes=())
    assert parameters.slice_address_width == width
    assert len(Lookup(parameters=parameters).slice) == width


@pytest.mark.parametrize(
    ("table", "width", "mu", "tables", "bits"),
    [("full", 8, 4, 2, 10), ("full", 24, 5, 5, 11), ("half", 8, 4, 2, 11), ("block", 24, 9, 3, 12)],
)
def test_entries(hdl, table, width, mu, tables, bits):
    """Sums of `mu` activations down to -128; a table for what is left over too."""
    parameters = hdl.parameters(
        ("int4",), INT8, width=width, mu=mu, table=table, group_sizes=(width,)
    )
    layout = entries_layout(parameters)
    assert (layout.length, Shape.cast(layout.elem_shape).width) == (tables, bits)
    assert lut_options(parameters).mu == mu


def test_other_engines_have_no_tables(hdl):
    parameters = hdl.parameters(("int4",), engine="term")
    assert isinstance(parameters.core, TermOptions)
    with pytest.raises(TypeError, match=r"^Tables need LutOptions, not TermOptions$"):
        Lookup(parameters=parameters)
