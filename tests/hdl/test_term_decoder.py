# amaranth: UnusedElaboratable=no
"""Every code of every format, step and zero-point, against the formats' own values."""

import numpy as np
import pytest

from lutra.formats import CATALOG
from lutra.hdl.term_decoder import TermDecoder

# A family of every kind, and of every width of codes but one bit.
EVERY_KIND = (
    *("int2", "int8", "int3_asym", "ternary", "bcq4_asym", "bitmod3", "bitmod4"),
    *("float4_e3m0", "float5_e2m2", "float6_e3m2", "float7_e2m4", "nf4", "int4_affine", "free3"),
)
MIXTURES = {
    **{name: (name,) for name in CATALOG},
    "every kind": EVERY_KIND,
    "mixed": ("bcq3_asym", "int2_asym", "bitmod4", "int8"),
}


def _parameters(hdl, formats):
    return hdl.parameters(
        formats,
        engine="term",
        fold=2,
        lanes=1,
        width=512,
        group_sizes=(),
        tile_slices=1,
        act_lanes=8,
    )


def _values(ctx, terms, count):
    """Return what the terms are worth, for as many weights and then the zero-point."""
    base, negative = ctx.get(terms.base), ctx.get(terms.negative)
    sizes = [ctx.get(terms.size[bit]) for bit in range(terms.size.shape().length)]
    values = []
    for index in [*range(count), terms.negative.shape().width - 1]:
        size = sum((column >> index & 1) << bit for bit, column in enumerate(sizes))
        term = 1 << (base + size - 1) if size else 0
        values.append(-term if negative >> index & 1 else term)
    return np.array(values)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_every_code(hdl, mixture):
    """One weight a code; the sum over the steps is the format's table, not the decoder's."""
    parameters = _parameters(hdl, MIXTURES[mixture])
    layout = parameters.layout
    dut = TermDecoder(parameters=parameters)

    async def bench(ctx):
        for bit in range(layout.max_code_width):
            # Beyond the format's own codes the weights repeat with bits that do not matter.
            ctx.set(dut.codes[bit], sum((code >> bit & 1) << code for code in range(256)))
        for number, item in enumerate(layout.members):
            ctx.set(dut.format, number)
            count = 1 << item.code_width
            tables = np.zeros((item.scale_count, count), dtype=np.int64)
            for index, step in enumerate(item.term_steps):
                ctx.set(dut.step, index)
                values = _values(ctx, dut.terms, 256)[:-1]
                own = hdl.streamed(item, step.values)
                assert values[:count].tolist() == own.tolist(), (item.name, index)
                assert np.array_equal(values, np.tile(values[:count], 256 // count))
                tables[step.scale_index] += values[:count]
            expected = item.weight_table(np.eye(item.scale_count, dtype=np.int64))
            expected = hdl.streamed(item, expected)
            if item.has_zero_point:
                tables -= tables[:, :1]
                expected = expected - expected[:, :1]
            assert np.array_equal(tables, expected), item.name

    hdl.simulate(dut, bench, clocked=False)


@pytest.mark.parametrize(
    "mixture", [name for name in MIXTURES if name.endswith("_asym")] + ["every kind", "mixed"]
)
def test_every_zero_point(hdl, mixture):
    """The zero-point's terms; formats without one have none, whatever the field holds."""
    parameters = _parameters(hdl, MIXTURES[mixture])
    layout = parameters.layout
    dut = TermDecoder(parameters=parameters)
    top = 1 << parameters.part_width

    async def bench(ctx):
        for number, item in enumerate(layout.members):
            ctx.set(dut.format, number)
            for zero in range(1 << item.code_width):
                for bit in range(layout.max_code_width):
                    ctx.set(dut.codes[bit], top * (zero >> bit & 1))
                for index, step in enumerate(item.term_steps):
                    ctx.set(dut.step, index)
                    values = hdl.streamed(item, step.values)
                    expected = values[zero] if item.has_zero_point else 0
                    assert _values(ctx, dut.terms, 0)[-1] == expected, (item.name, zero, index)

    hdl.simulate(dut, bench, clocked=False)
