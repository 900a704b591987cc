# amaranth: UnusedElaboratable=no
"""The look-up core against its formats' planes: every step, back to back, for every token."""

import random

import pytest

from lutra.formats import CATALOG, Numerics
from lutra.hdl.cores import builder_for, core_for
from lutra.hdl.lookup import entry_offset
from lutra.hdl.lut_core import LutCore
from lutra.hdl.table_builder import TableBuilder

INT8 = Numerics(activation="int8", act_width=8)
# A family of every kind, and of every width of codes but one bit.
EVERY_KIND = (
    *("int2", "int8", "int3_asym", "ternary", "bcq4_asym", "bitmod3", "bitmod4"),
    *("float4_e3m0", "float5_e2m2", "float6_e3m2", "float7_e2m4", "nf4", "int4_affine", "free3"),
)
FORMATS = {
    **{name: (name,) for name in CATALOG},
    "every kind": EVERY_KIND,
    "mixed": ("bcq3_asym", "int2_asym", "bitmod4", "int8"),
}


def _vectors(rng, width, tokens):
    """Activations of one slice for each token: random, or as extreme as can be."""
    kind = rng.randrange(4)
    if kind == 0:
        return [[rng.choice((-128, 127))] * width for _ in range(tokens)]
    return [[rng.randrange(-128, 128) for _ in range(width)] for _ in range(tokens)]


async def _write(ctx, dut, parameters, address, vectors):
    """Write every entry of a slice, and its sum."""
    options = parameters.core
    tables = options.tables(parameters.layout.width)
    ctx.set(dut.write.slice, address)
    _write_sum(ctx, dut, vectors)
    ctx.set(dut.write.enable, 1)
    unset = -1 if options.is_half else 0
    for entry in range(options.entries):
        signs = [1 if entry >> bit & 1 else unset for bit in range(options.mu)]
        ctx.set(dut.write.index, entry)
        for token, vector in enumerate(vectors):
            padded = [*vector, *[0] * (tables * options.mu - len(vector))]
            values = [
                sum(s * padded[table * options.mu + i] for i, s in enumerate(signs))
                + entry_offset(parameters)
                for table in range(tables)
            ]
            ctx.set(dut.write.values[token], values)
        await ctx.tick()
        _write_sum(ctx, dut, None)
    ctx.set(dut.write.enable, 0)


def _write_sum(ctx, dut, vectors):
    """Write a slice's sums, or stop writing, if the core keeps them."""
    if "sum" not in dut.write.shape().members:
        return
    ctx.set(dut.write.enable_sum, vectors is not None)
    if vectors is not None:
        ctx.set(dut.write.sum, [sum(vector) for vector in vectors])


def _work(rng, parameters, contents, count):
    """Random slices, step by step: what goes in, and the sums that must come out."""
    layout = parameters.layout
    for _ in range(count):
        number = rng.randrange(len(layout.members))
        item = layout.members[number]
        codes = [rng.randrange(1 << item.code_width) for _ in range(layout.width)]
        zero = rng.randrange(1 << item.code_width) if item.has_zero_point else None
        address = rng.choice(list(contents))
        for step, plane in enumerate(item.planes):
            digits = [plane.truth >> code & 1 for code in codes]
            if plane.bipolar:
                digits = [2 * digit - 1 for digit in digits]
            less = plane.truth >> zero & 1 if zero is not None else 0
            sums = [
                plane.coefficient * sum((d - less) * x for d, x in zip(digits, vector, strict=True))
                for vector in contents[address]
            ]
            yield {
                "format": number,
                "codes": codes,
                "zero": rng.getrandbits(2) if zero is None else zero,
                "step": step,
                "slice": address,
                "sums": sums,
            }


def _drive(ctx, dut, work):
    numbers = dut.parameters.layout.members[work["format"]].stream_codes
    for bit in range(dut.parameters.layout.max_code_width):
        column = sum((numbers[code] >> bit & 1) << i for i, code in enumerate(work["codes"]))
        ctx.set(dut.codes[bit], column)
    for name in ("format", "step", "slice"):
        ctx.set(getattr(dut, name), work[name])
    if len(dut.zero):
        ctx.set(dut.zero, work["zero"])


@pytest.mark.parametrize("mixture", FORMATS)
def test_every_step(hdl, mixture):
    rng = random.Random(mixture)
    seed = list(FORMATS).index(mixture)
    parameters = hdl.parameters(
        FORMATS[mixture],
        INT8,
        mu=(1, 3, 4, 8)[seed % 4] if seed % 4 else 1,
        table="half" if seed % 3 and seed % 4 else ("full", "block")[seed % 2],
        tokens=(1, 2, 4)[seed % 3],
    )
    dut = LutCore(parameters=parameters)
    slices = [0, 1, 2, 3]
    contents = {address: _vectors(rng, 8, parameters.tokens) for address in slices}

    async def bench(ctx):
        for address, vectors in contents.items():
            await _write(ctx, dut, parameters, address, vectors)
        work = list(_work(rng, parameters, contents, 30))
        for cycle in range(len(work) + dut.latency):
            _drive(ctx, dut, work[min(cycle, len(work) - 1)])
            if cycle >= dut.latency:
                done = work[cycle - dut.latency]
                assert [ctx.get(total) for total in dut.sums] == done["sums"], done
            await ctx.tick()

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(("mu", "table"), [(1, "full"), (4, "half"), (8, "full"), (9, "block")])
def test_activations_are_held_long_enough(hdl, mu, table):
    """What a step has read may be overwritten `hold_cycles` later."""
    parameters = hdl.parameters(("int3_asym",), INT8, mu=mu, table=table)
    dut = LutCore(parameters=parameters)
    rng = random.Random(mu)
    right, wrong = _vectors(rng, 8, 1), [[99] * 8]

    async def bench(ctx):
        for work in _work(rng, parameters, {0: right}, 3):
            await _write(ctx, dut, parameters, 0, right)
            _drive(ctx, dut, work)
            for cycle in range(dut.latency):
                if cycle == dut.hold_cycles:  # one entry a cycle; all at once is as bad
                    _write_sum(ctx, dut, wrong)
                    ctx.set(dut.write.enable, 1)
                await ctx.tick()
            _write_sum(ctx, dut, None)
            ctx.set(dut.write.enable, 0)
            assert [ctx.get(total) for total in dut.sums] == work["sums"]

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    ("width", "mu", "latency"), [(8, 8, 5), (8, 4, 6), (8, 2, 6), (8, 1, 7), (16, 1, 7), (24, 4, 7)]
)
def test_latency(hdl, width, mu, latency):
    """Decode in three cycles, look up, a stage for each two levels of the tree, inject."""
    parameters = hdl.parameters(("int4",), INT8, width=width, mu=mu, group_sizes=(width,))
    core = LutCore(parameters=parameters)
    assert (core.latency, core.hold_cycles) == (latency, latency - 1)


def test_kind(hdl):
    parameters = hdl.parameters()
    assert type(core_for(parameters)) is LutCore
    assert type(builder_for(parameters)) is TableBuilder
