# amaranth: UnusedElaboratable=no
"""Every code of every format and plane, and every zero-point, against the planes themselves."""

import pytest

from lutra.formats import CATALOG
from lutra.hdl.plane_decoder import PlaneDecoder, decode_cycles, plane_coefficients

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


def _parameters(hdl, formats, **changes):
    width = 256 if len(formats) > 2 else 1 << max(CATALOG[name].code_width for name in formats)
    width = max(width, 32)
    shape = {"lanes": 1, "width": width, "group_sizes": (), "tile_slices": 1, "act_lanes": 8}
    return hdl.parameters(formats, **shape, **changes)


def _bits(plane, item):
    """Digit bit of every code."""
    return [plane.truth >> code & 1 for code in range(1 << item.code_width)]


@pytest.mark.parametrize(
    ("mixture", "lut_inputs"),
    [*((name, 6) for name in MIXTURES), ("every kind", 4), ("every kind", 5), ("mixed", 4)],
)
def test_every_code(hdl, mixture, lut_inputs):
    """One lane per code, so that one look shows a whole truth table."""
    parameters = _parameters(hdl, MIXTURES[mixture], lut_inputs=lut_inputs)
    layout = parameters.layout
    dut = PlaneDecoder(parameters=parameters)
    coefficients = plane_coefficients(parameters)

    async def bench(ctx):
        for bit in range(layout.max_code_width):
            column = sum((code >> bit & 1) << code for code in range(layout.width))
            ctx.set(dut.codes[bit], column)
        for number, item in enumerate(layout.members):
            ctx.set(dut.format, number)
            for step, plane in enumerate(item.planes):
                ctx.set(dut.step, step)
                await ctx.tick().repeat(decode_cycles(parameters))
                where = f"plane {step} of {item.name}"
                assert coefficients[ctx.get(dut.plane.coefficient)] == plane.coefficient, where
                assert ctx.get(dut.plane.bipolar) == plane.bipolar, where
                digits = hdl.streamed(item, _bits(plane, item)).tolist()
                key = ctx.get(dut.key)
                assert [key >> code & 1 for code in range(len(digits))] == digits, where

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    "mixture", [name for name in MIXTURES if name.endswith("_asym")] + ["every kind", "mixed"]
)
def test_every_zero_point(hdl, mixture):
    """The digit of the zero-point; formats without one have none, whatever the field holds."""
    parameters = _parameters(hdl, MIXTURES[mixture])
    layout = parameters.layout
    dut = PlaneDecoder(parameters=parameters)
    if not layout.zero_width:
        assert not any(item.has_zero_point for item in layout.members)
        return

    async def bench(ctx):
        for number, item in enumerate(layout.members):
            highest = (1 << layout.zero_width) - 1
            zeros = range(1 << item.code_width) if item.has_zero_point else (0, 1, highest)
            for step, plane in enumerate(item.planes):
                ctx.set(dut.step, step)
                digits = hdl.streamed(item, _bits(plane, item)).tolist()
                for zero in zeros:
                    ctx.set(dut.format, number)
                    ctx.set(dut.zero, zero)
                    await ctx.tick().repeat(decode_cycles(parameters))
                    expected = digits[zero] if item.has_zero_point else 0
                    assert ctx.get(dut.plane.zero) == expected, (item.name, step, zero)

    hdl.simulate(dut, bench)


def test_codes_do_not_depend_on_each_other(hdl):
    """Each weight of a slice is decoded by itself: bits above a format's width do not matter."""
    parameters = hdl.parameters(("int2", "int8"), lanes=4, width=8)
    dut = PlaneDecoder(parameters=parameters)

    async def bench(ctx):
        ctx.set(dut.format, 0)
        for code in range(256):
            for bit in range(8):
                ctx.set(dut.codes[bit], (code >> bit & 1) << code % 8)
            for step in range(2):
                ctx.set(dut.step, step)
                await ctx.tick().repeat(decode_cycles(parameters))
                assert ctx.get(dut.key) == (code >> step & 1) << code % 8

    hdl.simulate(dut, bench)


def test_coefficients(hdl):
    """Each once, in order, those of all formats."""
    parameters = hdl.parameters(("bitmod4", "int2", "bcq1"))
    expected = {p.coefficient for m in parameters.layout.members for p in m.planes}
    assert plane_coefficients(parameters) == sorted(expected)
