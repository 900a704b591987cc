# amaranth: UnusedElaboratable=no
"""Both multipliers: extremes, exact latency, and pairs as close together as they may come."""

import itertools
import random

import pytest

from lutra.formats import Numerics
from lutra.hdl.multiply import DspMultiply, SerialMultiply, multiply_for

INT8 = Numerics(activation="int8", act_width=8)
SHAPES = {
    "one digit a cycle": {"formats": ("int8",), "group_sizes": (16,), "tile_slices": 2},
    "lowest bit first": {"formats": ("int4",), "group_sizes": (8,), "tile_slices": 2},
    "all bits at once": {"formats": ("bcq2",)},
    "two digits a cycle": {"formats": ("ternary",), "group_sizes": (8,), "tile_slices": 1},
    "wide scales": {"formats": ("int3",), "scale_width": 16, "group_sizes": (8,)},
    "one-bit scales": {"formats": ("int4",), "scale_width": 1, "group_sizes": (8,)},
}


def _pairs(parameters, count):
    rng = random.Random(1)
    value = 1 << parameters.segment_width - 1
    scale = (1 << parameters.layout.scale_width) - 1
    extremes = itertools.product((-value, value - 1, 0, -1, 1), (-scale, scale, 0, -1, 1))
    return [
        *extremes,
        *((rng.randrange(-value, value), rng.randint(-scale, scale)) for _ in range(count)),
    ]


def _wrapped(number, width):
    return (number + (1 << width - 1) & (1 << width) - 1) - (1 << width - 1)


@pytest.mark.parametrize("spacing", [0, 1, 3])
@pytest.mark.parametrize("multiply", ["serial", "dsp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products(hdl, shape, multiply, spacing):
    parameters = hdl.parameters(numerics=INT8, multiply=multiply, **SHAPES[shape])
    dut = multiply_for(parameters)
    assert isinstance(dut, SerialMultiply if multiply == "serial" else DspMultiply)
    latency = parameters.multiply_latency
    interval = parameters.multiply_interval + spacing
    pairs = _pairs(parameters, 20)
    rng = random.Random(2)

    async def bench(ctx):
        for cycle in range(len(pairs) * interval + latency):
            index, phase = divmod(cycle, interval)
            starts = phase == 0 and index < len(pairs)
            ctx.set(dut.start, starts)
            # Between starts the inputs may be anything.
            value, scale = pairs[index] if starts else (rng.getrandbits(4), -1)
            ctx.set(dut.value, value)
            ctx.set(dut.scale, scale)
            done, late = divmod(cycle - latency, interval)
            if late == 0 and 0 <= done < len(pairs):
                product = pairs[done][0] * pairs[done][1]
                expected = _wrapped(product, parameters.sum_width)
                assert ctx.get(dut.product) == expected, pairs[done]
            await ctx.tick()

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    ("shape", "digits", "loads", "interval"),
    [
        ("one digit a cycle", 1, False, 5),
        ("lowest bit first", 1, True, 4),
        ("all bits at once", 4, True, 1),
        ("two digits a cycle", 2, True, 2),
        ("wide scales", 3, False, 3),
        ("one-bit scales", 1, False, 1),
    ],
)
def test_digits_of_a_cycle(hdl, shape, digits, loads, interval):
    """As few as keep up with the shortest full group."""
    parameters = hdl.parameters(numerics=INT8, **SHAPES[shape])
    assert (parameters.multiply_digits, parameters.multiply_loads) == (digits, loads)
    assert parameters.multiply_interval == interval
    assert parameters.multiply_latency == interval + 1
    quick = hdl.parameters(numerics=INT8, multiply="dsp", **SHAPES[shape])
    assert (quick.multiply_latency, quick.multiply_interval) == (2, 1)
