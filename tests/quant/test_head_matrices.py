"""Matrices that are learned for values, and what they do to the rounded layers."""

import numpy as np
import pytest

from lutra.formats import ValueFormat, family
from lutra.quant import quantize
from lutra.quant.learned import learn_value_matrices
from lutra.quant.transforms import DecoderBlock, transform_values

SIZE, HIDDEN = 6, 24


def layers(seed, kv_heads):
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.standard_normal((kv_heads * SIZE, 1)))
    v = rng.standard_normal((kv_heads * SIZE, HIDDEN)) * spread
    repeated = np.repeat(spread.reshape(kv_heads, SIZE), 4 // kv_heads, axis=0).reshape(-1)
    o = rng.standard_normal((HIDDEN, 4 * SIZE)) / repeated
    x = rng.standard_normal((80, HIDDEN)) * np.exp(rng.standard_normal(HIDDEN))
    heads = (x @ v.T).reshape(80, kv_heads, SIZE)
    return v, o, x, np.repeat(heads, 4 // kv_heads, axis=1).reshape(80, -1)


def output_error(v, o, x, m, kv_heads):
    """Errors of both layers, rounded by the quantiser itself."""
    errors = [
        quantize(item, format="int3", group_size=12, scale_width=16).dequantize() - item
        for item in (v, o)
    ]
    through = np.repeat((x @ errors[0].T).reshape(80, kv_heads, SIZE), 4 // kv_heads, axis=1)
    from_value = ((through.reshape(80, -1) @ o.T) ** 2).sum()
    return float(from_value + ((m @ errors[1].T) ** 2).sum())


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_learned_matrices_lower_the_error(kv_heads):
    v, o, x, m = layers(1, kv_heads)
    item = family("int3").members[0]
    assert isinstance(item, ValueFormat)
    matrices = learn_value_matrices(
        v, o, x, m, heads=4, kv_heads=kv_heads, number_format=item, group_size=12, steps=80,
        rate=0.03,
    )  # fmt: skip
    assert matrices.shape == (kv_heads, SIZE, SIZE)
    # Elements off the diagonal have a share of a tenth.
    assert np.abs(matrices).sum(axis=2).max() < 3 * np.abs(matrices).max()
    block = DecoderBlock(prefix="b", heads=4, kv_heads=kv_heads)
    named = {"b.self_attn.v_proj.weight": v, "b.self_attn.o_proj.weight": o}
    made = transform_values(named, block, matrices)
    v2, o2 = made["b.self_attn.v_proj.weight"], made["b.self_attn.o_proj.weight"]
    m2 = m.reshape(80, 4, 1, SIZE) @ np.repeat(matrices, 4 // kv_heads, axis=0).swapaxes(1, 2)
    m2 = m2.reshape(80, -1)
    assert np.allclose(m2 @ o2.T, m @ o.T)
    before = output_error(v, o, x, m, kv_heads)
    assert output_error(v2, o2, x, m2, kv_heads) < 0.9 * before


def test_no_steps_leave_the_identity():
    v, o, x, m = layers(2, 2)
    item = family("int3").members[0]
    assert isinstance(item, ValueFormat)
    found = learn_value_matrices(
        v, o, x, m, heads=4, kv_heads=2, number_format=item, group_size=12, steps=0
    )
    assert np.array_equal(found, np.stack([np.eye(SIZE)] * 2))
