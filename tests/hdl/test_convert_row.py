# amaranth: UnusedElaboratable=no
"""Row sums to numbers against the golden model's conversion: every rounding and every end."""

import itertools
import random

import numpy as np
import pytest

from lutra.formats import FLOATS, Numerics
from lutra.hdl.convert_row import ConvertRow
from lutra.sim import convert_output

# What decides the width of a sum, from 20 bits to 63.
WIDTHS = {
    20: {"numerics": {"activation": "int8", "act_width": 8}, "scale_width": 1, "max_columns": 500},
    30: {"numerics": {"activation": "bfloat16", "act_width": 12}},
    42: {"numerics": {"activation": "float16", "act_width": 24}},
    58: {"numerics": {"activation": "float16", "act_width": "exact"}, "scale_width": 7},
    63: {
        "numerics": {"activation": "float32", "act_width": 24},
        "formats": ["int8_asym"],
        "scale_width": 16,
        "max_columns": 30_000,
    },
}


def _component(hdl, width, output):
    changes = {"formats": ["int4"], "max_columns": 80, **WIDTHS[width]}
    numerics = Numerics(**changes.pop("numerics"), output=output)
    parameters = hdl.parameters(changes.pop("formats"), numerics, **changes)
    return ConvertRow(parameters=parameters), parameters


def _bits(number):
    return int(np.float32(number).view(np.uint32))


SCALES = [
    _bits(number)
    for number in (
        1.0, -1.0, 0.0, -0.0, 1.5, 2 - 2.0**-23, 1 + 2.0**-23, -(2 - 2.0**-23) * 2.0**127, 2.0**127,
        2.0**-126, -(2.0**-126) + 2.0**-149, 2.0**-149, -(2.0**-149), 3 * 2.0**-149, 2.0**-130,
    )
]  # fmt: skip


def _sums(width, rng):
    """Return ends of the range, zeros, and sums around halves of the last place of a float32."""
    peak = 1 << width - 1
    sums = [0, 1, -1, 2, 3, peak - 1, -(peak - 1), peak >> 1, -peak]
    for top in range(24, width - 1):
        for low in (0, 1):  # even and odd
            number = (1 << 23 | low) << top - 23
            half = 1 << top - 23 >> 1
            sums += [number + half, -(number + half), number + half + 1, number + half - 1]
        sums.append((1 << top + 1) - 1)  # rounds up to the next power of two
    sums += [rng.getrandbits(rng.randrange(1, width)) * rng.choice((1, -1)) for _ in range(60)]
    return [total for total in sums if -peak <= total < peak]


def _check(hdl, component, output, vectors):
    """Give one vector a cycle: (sum, exponent, bits of the row scale, nonfinite)."""
    latency = component.latency
    sums, exponents, scales, nonfinite = (np.array(column) for column in zip(*vectors, strict=True))
    expected = [
        int(
            convert_output(
                sums[i : i + 1, None].astype(np.int64),
                exponents[i : i + 1].astype(np.int32),
                scales[i : i + 1].astype(np.uint32).view(np.float32),
                output,
                nonfinite[i : i + 1].astype(bool),
            ).view(f"u{FLOATS[output].width // 8}")[0, 0]
        )
        for i in range(len(vectors))
    ]

    async def bench(ctx):
        for index in range(len(vectors) + latency):
            total, exponent, scale, bad = vectors[min(index, len(vectors) - 1)]
            ctx.set(component.sum, total)
            ctx.set(component.exponent, exponent)
            ctx.set(component.row_scale, scale)
            ctx.set(component.nonfinite, bad)
            if index >= latency:
                got, place = ctx.get(component.number), index - latency
                assert got == expected[place], (
                    f"{vectors[place]} gives {got:#x} and not {expected[place]:#x}"
                )
            await ctx.tick()

    hdl.simulate(component, bench)
    return expected


@pytest.mark.parametrize("output", FLOATS)
@pytest.mark.parametrize("width", WIDTHS)
def test_roundings(hdl, width, output):
    """Every adversarial sum with some scale and exponent that keep it within the range."""
    component, parameters = _component(hdl, width, output)
    assert parameters.sum_width == width
    rng = random.Random(width)
    vectors = []
    for total in _sums(width, rng):
        exponent = rng.choice((0, -1, -(total.bit_length()), 14 - total.bit_length()))
        exponent = max(-40, exponent) if parameters.numerics.is_float else 0
        scale = rng.choice((_bits(1.0), _bits(rng.uniform(-2, 2)), rng.choice(SCALES)))
        vectors.append((total, exponent, scale, 0))
    _check(hdl, component, output, vectors)


@pytest.mark.parametrize("output", FLOATS)
def test_ends_of_the_range(hdl, output):
    """Flushed to zero, subnormal in the output type, largest, infinite: each is reached."""
    component, _ = _component(hdl, 42, output)
    rng = random.Random(1)
    vectors = [
        (total, exponent, scale, 0)
        for total, exponent, scale in itertools.product(
            (1, -1, 3, 0xFFFFFF, -0x1000001, (1 << 40) - 1, -(1 << 41)),
            (-46, -24, -14, 0, 9),
            SCALES,
        )
    ]
    rng.shuffle(vectors)
    kind = FLOATS[output]
    got = _check(hdl, component, output, vectors)
    magnitudes = {bits & (1 << kind.width - 1) - 1 for bits in got}
    assert {0, kind.infinity} <= magnitudes
    assert 1 << (kind.width - 1) in got, "no negative zero"
    subnormal = any(0 < bits < 1 << kind.fraction_width for bits in magnitudes)
    assert subnormal == (output == "float16")


@pytest.mark.parametrize("output", FLOATS)
def test_each_exponent_of_a_float32(hdl, output):
    """Sweep the result through the whole range and past both ends, about every boundary."""
    component, _ = _component(hdl, 30, output)
    rng = random.Random(2)
    vectors = []
    for power in range(-175, 145):
        exponent = max(-139, min(121, power))
        scale = np.float32(2.0 ** max(-149, min(127, power - exponent)))
        for total in (1, 3, 0x7FF, 0x801, rng.getrandbits(26) | 1 << 25):
            vectors.append((total * rng.choice((1, -1)), exponent, int(scale.view(np.uint32)), 0))
    _check(hdl, component, output, vectors)


@pytest.mark.parametrize("output", ["float16", "bfloat16"])
def test_double_rounding(hdl, output):
    """Sums just beside a tie of the narrow type, which float32 rounds onto the tie."""
    component, _ = _component(hdl, 42, output)
    fraction = FLOATS[output].fraction_width
    vectors = []
    for low in range(4):
        for beyond in (-1, 0, 1):
            total = (1 << fraction | low) << 30 - fraction
            total += (1 << 29 - fraction) + beyond
            vectors += [(total, -30, _bits(1.0), 0), (-total, -40, _bits(1.0), 0)]
            vectors += [(total, -44, _bits(2.0**-9), 0), (total, -46, _bits(-1.5), 0)]
    _check(hdl, component, output, vectors)


@pytest.mark.parametrize("output", FLOATS)
def test_not_a_number(hdl, output):
    """One pattern, whatever the sum, the scale and the exponent."""
    component, _ = _component(hdl, 42, output)
    vectors = [
        (total, exponent, scale, bad)
        for total, exponent, scale in [(0, 0, 0), (5, 9, SCALES[0]), (-7, -46, SCALES[7])]
        for bad in (1, 0, 1)
    ]
    got = _check(hdl, component, output, vectors)
    assert got[0] == got[2] == got[6] == FLOATS[output].quiet_nan


@pytest.mark.parametrize("output", FLOATS)
def test_row_scale_that_is_not_finite(hdl, output):
    """No packer makes one, but a stream could hold it: the row is no number, even where 0."""
    component, _ = _component(hdl, 42, output)
    patterns = (0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF)

    async def bench(ctx):
        for scale in patterns:
            for total in (0, 1, -5):
                ctx.set(component.sum, total)
                ctx.set(component.row_scale, scale)
                for _ in range(component.latency):
                    await ctx.tick()
                assert ctx.get(component.number) == FLOATS[output].quiet_nan

    hdl.simulate(component, bench)
