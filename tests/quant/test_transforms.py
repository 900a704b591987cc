import numpy as np
import pytest

from lutra.quant import Recipe
from lutra.quant.transforms import (
    DecoderBlock,
    check_equivalence,
    pre_shift,
    rotary_matrices,
    scale_hidden,
    scale_norm,
    smooth_block,
    smooth_scales,
    transform_queries,
    transform_values,
)

HIDDEN, WIDE, SIZE = 24, 40, 6


def block(**changes):
    return DecoderBlock(**{"prefix": "b", "heads": 4, "kv_heads": 2, **changes})


def tensors(seed=1, *, biases=False, kv_heads=2):
    rng = np.random.default_rng(seed)
    shapes = {
        "self_attn.q_proj": (4 * SIZE, HIDDEN),
        "self_attn.k_proj": (kv_heads * SIZE, HIDDEN),
        "self_attn.v_proj": (kv_heads * SIZE, HIDDEN),
        "self_attn.o_proj": (HIDDEN, 4 * SIZE),
        "mlp.gate_proj": (WIDE, HIDDEN),
        "mlp.up_proj": (WIDE, HIDDEN),
        "mlp.down_proj": (HIDDEN, WIDE),
    }
    made = {}
    for name, shape in shapes.items():
        made[f"b.{name}.weight"] = (rng.standard_normal(shape) / 3).astype(np.float32)
        if biases:
            made[f"b.{name}.bias"] = rng.standard_normal(shape[0]).astype(np.float32)
    for name in ("input_layernorm", "post_attention_layernorm"):
        made[f"b.{name}.weight"] = rng.uniform(0.5, 2, HIDDEN).astype(np.float32)
        if biases:
            made[f"b.{name}.bias"] = rng.standard_normal(HIDDEN).astype(np.float32)
    return made


def literal_block(t, x, heads, kv_heads, pairs):
    """Compute the block again, token by token and head by head, with complex rotations."""
    t = {name: array.astype(np.float64) for name, array in t.items()}

    def norm(name, v):
        g, b = t[f"b.{name}.weight"], t.get(f"b.{name}.bias")
        if b is None:
            return v / np.sqrt(np.mean(v**2) + 1e-5) * g
        return (v - v.mean()) / np.sqrt(v.var() + 1e-5) * g + b

    def linear(name, v):
        return t[f"b.{name}.weight"] @ v + t.get(f"b.{name}.bias", 0)

    def turned(v, position):
        first, second = (v[: SIZE // 2], v[SIZE // 2 :]) if pairs == "half" else (v[::2], v[1::2])
        angles = position * 10000.0 ** (-np.arange(0, SIZE, 2) / SIZE)
        return (first + 1j * second) * np.exp(1j * angles)

    out = []
    normed = [norm("input_layernorm", v) for v in x]
    q, k, v = ([linear(f"self_attn.{p}_proj", n) for n in normed] for p in "qkv")
    for m in range(len(x)):
        joined = []
        for head in range(heads):
            own = slice(head * SIZE, (head + 1) * SIZE)
            shared = head // (heads // kv_heads)
            other = slice(shared * SIZE, (shared + 1) * SIZE)
            scores = [
                np.real(np.vdot(turned(k[j][other], j), turned(q[m][own], m))) / np.sqrt(SIZE)
                for j in range(m + 1)
            ]
            p = np.exp(scores) / np.exp(scores).sum()
            joined.append(sum(p[j] * v[j][other] for j in range(m + 1)))
        y = x[m] + linear("self_attn.o_proj", np.concatenate(joined))
        n = norm("post_attention_layernorm", y)
        gate = linear("mlp.gate_proj", n)
        hidden = gate / (1 + np.exp(-gate)) * linear("mlp.up_proj", n)
        out.append(y + linear("mlp.down_proj", hidden))
    return np.array(out)


@pytest.mark.parametrize("pairs", ["half", "adjacent"])
@pytest.mark.parametrize("biases", [False, True])
def test_forward_equals_the_block_written_out(pairs, biases):
    t = tensors(biases=biases)
    x = np.random.default_rng(2).standard_normal((7, HIDDEN))
    found = block(rope_pairs=pairs).forward(t, x)
    assert np.allclose(found, literal_block(t, x, 4, 2, pairs), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("biases", [False, True])
def test_scales_after_norms(biases):
    t, rng = tensors(biases=biases), np.random.default_rng(3)
    b = block()
    for norm, layers in b.after_norms().items():
        s = np.exp(rng.standard_normal(HIDDEN)) * rng.choice([-1, 1], HIDDEN)
        made = scale_norm(t, norm, layers, s)
        assert check_equivalence(t, made, b) < 1e-12
        assert not np.allclose(made[f"{layers[0]}.weight"], t[f"{layers[0]}.weight"])
        if biases:
            shifts = rng.standard_normal(HIDDEN)
            check_equivalence(t, scale_norm(t, norm, layers, s, shifts), b)
        # A layer that is left out sees other inputs.
        with pytest.raises(ValueError, match="The transform of b is not equivalent: outputs diff"):
            check_equivalence(t, scale_norm(t, norm, layers[1:], s), b)


def test_scales_between_up_and_down():
    for biases in (False, True):
        t = tensors(biases=biases)
        s = np.random.default_rng(4).standard_normal(WIDE) + 3
        assert check_equivalence(t, scale_hidden(t, block(), s), block()) < 1e-12


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_matrices_of_values(kv_heads):
    t = tensors(biases=True, kv_heads=kv_heads)
    b = block(kv_heads=kv_heads)
    a = np.random.default_rng(5).standard_normal((kv_heads, SIZE, SIZE)) + 2 * np.eye(SIZE)
    assert check_equivalence(t, transform_values(t, b, a), b) < 1e-10


@pytest.mark.parametrize("pairs", ["half", "adjacent"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_rotary_pairs_of_queries(kv_heads, pairs):
    t = tensors(biases=True, kv_heads=kv_heads)
    b, rng = block(kv_heads=kv_heads, rope_pairs=pairs), np.random.default_rng(6)
    shape = (kv_heads, SIZE // 2)
    factors = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    made = transform_queries(t, b, rotary_matrices(b, factors))
    assert check_equivalence(t, made, b) < 1e-11
    # The same numbers for pairs of the other kind.
    other = block(kv_heads=kv_heads, rope_pairs={"half": "adjacent", "adjacent": "half"}[pairs])
    with pytest.raises(ValueError, match="not equivalent"):
        check_equivalence(t, transform_queries(t, b, rotary_matrices(other, factors)), b)


def test_other_matrices_of_queries_are_refused():
    """A general matrix, and scales that differ within a pair, as code of others has them."""
    t, b, rng = tensors(), block(), np.random.default_rng(7)
    general = rng.standard_normal((2, SIZE, SIZE)) + 2 * np.eye(SIZE)
    diagonal = np.stack([np.diag(rng.uniform(0.5, 2, SIZE)) for _ in range(2)])
    for matrices in (general, diagonal):
        made = transform_queries(t, b, matrices)
        with pytest.raises(ValueError, match="only transforms that can be merged"):
            check_equivalence(t, made, b)
        # The first token has no rotation: more of them are needed to see it.
        check_equivalence(t, made, b, tokens=1)


def test_pre_shift_is_exact():
    t, b = tensors(), block()
    rng = np.random.default_rng(8)
    x = rng.standard_normal((50, HIDDEN)) * np.exp2(rng.integers(-6, 6, HIDDEN))
    powers = pre_shift(x, 2)
    assert set(np.log2(powers)) <= {0.0, 1.0, 2.0, 3.0}
    exponents = np.round(np.log2(np.abs(x).max(axis=0)))
    wanted = np.clip(exponents - (exponents.max() - 3), 0, 3)
    assert np.array_equal(np.log2(powers), wanted)
    layers = b.after_norms()[b.attention_norm]
    made = scale_norm(t, b.attention_norm, layers, powers)
    for name in (*layers, b.attention_norm):
        rounded = made[f"{name}.weight"].astype(np.float32)
        assert np.array_equal(rounded, made[f"{name}.weight"])
    assert check_equivalence(t, made, b, tolerance=1e-14) < 1e-14
    assert np.array_equal(pre_shift(np.zeros((3, 4)), 2), np.ones(4))


def test_pre_shift_helps_small_floats():
    """Activations with large channels, in one E2M1 format for the tensor."""
    rng = np.random.default_rng(9)
    x = rng.standard_normal((400, 64))
    x[:, ::8] *= 40

    def noise(v):
        values = np.array([0, 1, 2, 3, 4, 6, 8, 12])
        values = np.unique(np.concatenate([values, -values])).astype(float)
        scale = np.abs(v).max() / 12
        ranks = (v[..., None] / scale > (values[:-1] + values[1:]) / 2).sum(axis=-1)
        return ((values[ranks] * scale - v) ** 2).mean(axis=0)

    small = np.arange(64) % 8 != 0
    powers = pre_shift(x, 2)
    assert (noise(x / powers) * powers**2)[small].mean() < 0.3 * noise(x)[small].mean()


def test_scales_of_smoothing():
    rng = np.random.default_rng(10)
    w, x = rng.standard_normal((5, 8)), rng.standard_normal((9, 8))
    w[:, 2], x[:, 5] = 0, 0
    found = smooth_scales(w, x, 0.3)
    live = np.array([k not in (2, 5) for k in range(8)])
    wanted = np.abs(x).max(axis=0) ** 0.3 / np.where(live, np.abs(w).max(axis=0), 1) ** 0.7
    wanted /= np.prod(wanted[live]) ** (1 / 6)
    assert np.allclose(found[live], wanted[live])
    assert (found[~live] == 1).all()


def test_smoothing_a_block():
    t, b, rng = tensors(), block(), np.random.default_rng(11)
    spread = np.exp(1.5 * rng.standard_normal(HIDDEN))
    inputs = {
        name: rng.standard_normal((60, HIDDEN)) * spread
        for layers in b.after_norms().values()
        for name in layers
    }
    inputs["b.mlp.down_proj"] = rng.standard_normal((60, WIDE)) * np.exp(rng.standard_normal(WIDE))
    made = smooth_block(t, b, inputs, Recipe(format="int3", group_size=None))
    assert check_equivalence(t, made, b) < 1e-10
    assert not np.allclose(made["b.input_layernorm.weight"], t["b.input_layernorm.weight"])


def test_refusals():
    t, b = tensors(), block()
    layers = b.after_norms()[b.mlp_norm]
    with pytest.raises(ValueError, match="which has no bias; leave them out"):
        scale_norm(t, b.mlp_norm, layers, np.ones(HIDDEN), np.ones(HIDDEN))
    for scales in (np.zeros(HIDDEN), np.ones(3), np.full(HIDDEN, np.nan)):
        with pytest.raises(ValueError, match="Scales must be 24 finite numbers other than 0"):
            scale_norm(t, b.mlp_norm, layers, scales)
    with pytest.raises(ValueError, match="cannot be inverted"):
        transform_values(t, b, np.zeros((2, SIZE, SIZE)))
    with pytest.raises(ValueError, match="must have 3 heads of 6 rows for these matrices, not 12"):
        transform_values(t, b, np.ones((3, SIZE, SIZE)))
    with pytest.raises(ValueError, match="must be a multiple of the heads of keys, not 4 and 3"):
        block(kv_heads=3)
    with pytest.raises(ValueError, match="Pairs must be 'half' or 'adjacent', not 'third'"):
        block(rope_pairs="third")
    with pytest.raises(ValueError, match="at least 1 bit"):
        pre_shift(np.ones((2, 2)), 0)
