# amaranth: UnusedElaboratable=no
"""Alignment of activations against the golden model's, for every type and width."""

import numpy as np
import pytest
from amaranth import Module

from lutra.formats import FLOATS, Numerics
from lutra.hdl.align import Align, SharedExponent, exponent_cycles, exponent_width
from lutra.sim import DTYPES, adversarial_tokens, align, nonfinite_tokens

ALL = [
    *(
        Numerics(activation=name, act_width=width)
        for name in ("float16", "bfloat16", "float32")
        for width in range(8, 25)
    ),
    Numerics(activation="float16", act_width="exact"),
]
SOME = [n for n in ALL if n.act_width in (8, 16, 24, "exact")]


def _name(numerics):
    return f"{numerics.activation}-{numerics.act_width}"


def _check(hdl, numerics, tokens):
    """Give a token's peak to the one and its elements to the other, one a cycle."""
    m = Module()
    m.submodules.shared = shared = SharedExponent(numerics=numerics)
    m.submodules.align = dut = Align(numerics=numerics)
    m.d.comb += dut.biased.eq(shared.biased)
    golden = align(tokens, numerics, nonfinite="nan")
    unsigned = tokens.view(f"u{tokens.dtype.itemsize}")
    magnitudes = unsigned & ((1 << numerics.element_width - 1) - 1)

    async def bench(ctx):
        for token, bits in enumerate(unsigned.tolist()):
            ctx.set(shared.peak, int(magnitudes[token].max()))
            for _ in range(exponent_cycles(numerics)):
                await ctx.tick()
            assert ctx.get(shared.nonfinite) == golden.nonfinite[token]
            if golden.nonfinite[token]:
                continue
            assert ctx.get(shared.exponent) == golden.exponent[token]
            got = []
            for element in [*bits, *[0] * Align.LATENCY]:
                ctx.set(dut.element, element)
                await ctx.tick()
                got.append(ctx.get(dut.aligned))
            first = Align.LATENCY - 1
            assert got[first : first + len(bits)] == golden.X[token].tolist(), f"token {token}"

    hdl.simulate(m, bench)


@pytest.mark.parametrize("numerics", ALL, ids=_name)
def test_adversarial_tokens(hdl, numerics):
    tokens = adversarial_tokens(numerics, 12, seed=1) | nonfinite_tokens(numerics, 12, seed=2)
    _check(hdl, numerics, np.stack(list(tokens.values())))


@pytest.mark.parametrize("numerics", SOME, ids=_name)
def test_each_exponent(hdl, numerics):
    """A peak of every exponent, with elements of the exponents just below it."""
    float_type = FLOATS[numerics.activation]
    width = float_type.fraction_width
    rng = np.random.default_rng(1)
    fields = np.arange(float_type.exponent_mask)
    if len(fields) > 64:
        fields = np.concatenate([fields[:24], fields[24:-24:9], fields[-24:]])
    peak = fields << width | rng.integers(0, 1 << width, len(fields))
    below = np.maximum(fields - rng.integers(0, 26, (4, len(fields))), 0)
    others = below << width | rng.integers(0, 1 << width, below.shape)
    bits = np.concatenate([peak[None], np.minimum(others, peak)]).T
    bits |= rng.integers(0, 2, bits.shape) << (float_type.width - 1)
    dtype = DTYPES[numerics.activation]
    _check(hdl, numerics, bits.astype(f"u{dtype.itemsize}").view(dtype))


@pytest.mark.parametrize("numerics", SOME, ids=_name)
def test_each_subnormal_peak(hdl, numerics):
    """The smallest numbers: normalised by shifting further to the left than any normal one."""
    float_type, dtype = FLOATS[numerics.activation], DTYPES[numerics.activation]
    peaks = [
        1 << bit | low for bit in range(float_type.fraction_width) for low in (0, 1 << bit >> 1)
    ]
    bits = np.array([[peak, peak >> 1, 1, peak | 1 << (float_type.width - 1)] for peak in peaks])
    _check(hdl, numerics, bits.astype(f"u{dtype.itemsize}").view(dtype))


@pytest.mark.parametrize("act_width", [8, "exact", pytest.param(13, marks=pytest.mark.slow)])
def test_float16_beside_one(hdl, act_width):
    """Every 16th bit pattern of up to one, rounded to steps of a fixed size."""
    numerics = Numerics(activation="float16", act_width=act_width)
    step = 1 if act_width == 13 else 16
    bits = np.arange(0, 0x3C00, step, dtype=np.uint16) + (7 if step == 16 else 0)
    tokens = np.concatenate([np.array([0x3C00], dtype=np.uint16), bits])[None].view(np.float16)
    _check(hdl, numerics, np.concatenate([tokens, -tokens]))


@pytest.mark.parametrize(
    ("activation", "width"), [("int8", 2), ("float16", 8), ("bfloat16", 11), ("float32", 11)]
)
def test_exponent_width(activation, width):
    numerics = Numerics(activation=activation, act_width=8)
    assert exponent_width(numerics) == width
    if numerics.is_float:
        float_type = numerics.float_type
        lowest = 1 - float_type.bias - float_type.fraction_width + 2 - 24
        highest = float_type.bias + 2 - 8
        assert -(1 << width - 1) <= lowest <= highest < 1 << width - 1
