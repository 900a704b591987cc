# amaranth: UnusedElaboratable=no
"""The MAC core's decoder, latency and widths; what it computes is in test_folded_core.py."""

import numpy as np
import pytest

from lutra.formats import CATALOG, Numerics
from lutra.hdl.mac_core import MacCore
from lutra.hdl.value_decoder import ValueDecoder, value_width

INT8 = Numerics(activation="int8", act_width=8)
# A family of every kind, and of every width of codes but one bit.
EVERY_KIND = (
    *("int2", "int8", "int3_asym", "ternary", "bcq4_asym", "bitmod3", "bitmod4"),
    *("float4_e3m0", "float5_e2m2", "float6_e3m2", "float7_e2m4", "nf4", "int4_affine", "free3"),
)
MIXTURES = {**{name: (name,) for name in CATALOG}, "every kind": EVERY_KIND}


def _parameters(hdl, formats, **changes):
    changes.setdefault("group_sizes", ())
    return hdl.parameters(formats, INT8, **changes)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_every_value(hdl, mixture):
    """One weight a code, and every zero-point: differences are those of the format's table."""
    parameters = _parameters(
        hdl,
        MIXTURES[mixture],
        engine="mac",
        fold=2,
        lanes=1,
        width=512,
        tile_slices=1,
        act_lanes=8,
    )
    layout = parameters.layout
    dut = ValueDecoder(parameters=parameters)
    width, top = value_width(layout), parameters.part_width

    def values(ctx):
        columns = [ctx.get(dut.values[bit]) for bit in range(width)]
        unsigned = [
            sum((column >> index & 1) << bit for bit, column in enumerate(columns))
            for index in range(top + 1)
        ]
        half = 1 << (width - 1)
        return np.array([(value ^ half) - half for value in unsigned])

    async def bench(ctx):
        for number, item in enumerate(layout.members):
            ctx.set(dut.format, number)
            count = 1 << item.code_width
            for scale in range(item.scale_count):
                ctx.set(dut.scale, scale)
                table = item.weight_table(np.eye(item.scale_count, dtype=np.int64)[scale])
                table = hdl.streamed(item, table)
                for zero in range(0, count, 1 if count <= 16 else 37):
                    for bit in range(layout.max_code_width):
                        column = sum((code >> bit & 1) << code for code in range(top))
                        ctx.set(dut.codes[bit], column | (zero >> bit & 1) << top)
                    got = values(ctx)
                    if item.has_zero_point:
                        assert np.array_equal(got[:count] - got[top], table - table[zero])
                    else:
                        assert np.array_equal(got[:count], table)
                        assert got[top] == 0
                    assert np.array_equal(got[:top], np.tile(got[:count], top // count))

    hdl.simulate(dut, bench, clocked=False)


@pytest.mark.parametrize(
    ("formats", "width"),
    [
        (("bcq3",), 2),
        (("ternary",), 2),
        (("bitmod3",), 4),
        (("bitmod4",), 6),
        (("int8",), 8),
        (("int8_asym",), 8),
        (("int4_asym", "int3"), 4),
        (("float4_e2m1",), 5),
    ],
)
def test_values_are_as_wide_as_needed(hdl, formats, width):
    layout = _parameters(hdl, formats, engine="mac", fold=2).layout
    assert value_width(layout) == width


@pytest.mark.parametrize(
    ("formats", "width", "fold", "product", "latency"),
    [
        (("int8",), 8, 8, "dsp", 3),
        (("int8",), 8, 1, "dsp", 5),
        (("int8_asym",), 8, 1, "dsp", 6),
        (("int8",), 8, 8, "logic", 4),
        (("int4",), 8, 8, "logic", 4),
        (("bcq2",), 8, 8, "logic", 3),
        (("int8_asym",), 64, 2, "logic", 7),
    ],
)
def test_latency(hdl, formats, width, fold, product, latency):
    parameters = _parameters(
        hdl, formats, engine="mac", fold=fold, product=product, width=width, act_lanes=1
    )
    core = MacCore(parameters=parameters)
    assert core.latency == latency
    assert core.hold_cycles == 1
