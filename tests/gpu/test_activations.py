import numpy as np
import pytest
import torch

from lutra.formats import FLOATS, Numerics
from lutra.gpu import ZERO_TOKEN, align, from_numpy, step_exponents, to_numpy
from lutra.sim import DTYPES, adversarial_tokens, nonfinite_tokens
from lutra.sim import align as golden_align

NUMERICS = [
    *(Numerics(activation=name, act_width=width) for name in FLOATS for width in range(8, 25)),
    Numerics(act_width="exact"),
    Numerics(activation="int8", act_width=8),
]


def name_of(numerics):
    return f"{numerics.activation}-{numerics.act_width}"


def check(x, numerics):
    expected = golden_align(x, numerics, nonfinite="nan")
    seen = align(from_numpy(x), numerics)
    for field in ("X", "exponent", "nonfinite"):
        assert np.array_equal(to_numpy(getattr(seen, field)), getattr(expected, field)), field
        assert getattr(seen, field).numpy().dtype == getattr(expected, field).dtype


@pytest.mark.parametrize("numerics", NUMERICS, ids=name_of)
def test_adversarial_tokens(numerics):
    for columns in (1, 37):
        tokens = adversarial_tokens(numerics, columns) | nonfinite_tokens(numerics, columns)
        check(np.stack(list(tokens.values())), numerics)


@pytest.mark.parametrize(
    "numerics", [item for item in NUMERICS if item.element_width == 16], ids=name_of
)
def test_every_pattern_of_16_bits_beside_others(numerics):
    dtype = DTYPES[numerics.activation]
    patterns = np.arange(1 << 16, dtype=np.uint16)
    x = np.zeros((len(patterns), 3), dtype=np.uint16)
    x[:, 0] = patterns
    check(x.view(dtype), numerics)
    x[:, 1] = np.array(1, dtype=dtype).view(np.uint16)
    x[:, 2] = 1  # the smallest subnormal
    check(x.view(dtype), numerics)


def test_random_float32_patterns():
    x = np.random.default_rng(1).integers(0, 1 << 32, (4096, 5), dtype=np.uint32)
    # Exponents near each other, so that not all but one element are rounded away.
    x[2048:] = x[2048:] & 0x83FFFFFF | 0x3C000000
    for act_width in (8, 16, 24):
        check(x.view(np.float32), Numerics(activation="float32", act_width=act_width))


def test_any_strides():
    numerics = Numerics()
    x = np.stack(list(adversarial_tokens(numerics, 24).values()))
    tensor = from_numpy(x)
    for view in (tensor.T.contiguous().T, tensor[:, ::2], tensor[::3], tensor[:1].expand(4, -1)):
        expected = golden_align(view.numpy(), numerics)
        assert np.array_equal(align(view, numerics).X.numpy(), expected.X)


@pytest.mark.parametrize("numerics", NUMERICS, ids=name_of)
def test_shards_have_the_exponent_of_the_whole(numerics):
    x = from_numpy(np.stack(list(adversarial_tokens(numerics, 30).values())))
    whole = align(x, numerics)
    shards = x.split([7, 1, 22], dim=1)
    exponent = step_exponents(shards[0], numerics)
    for shard in shards[1:]:
        exponent = torch.maximum(exponent, step_exponents(shard, numerics))
    parts = [align(shard, numerics, exponent) for shard in shards]
    assert torch.equal(torch.cat([part.X for part in parts], dim=1), whole.X)
    assert all(torch.equal(part.exponent, whole.exponent) for part in parts)


def test_tokens_without_exponent_decide_nothing():
    x = torch.tensor([[0.0, -0.0], [1.0, float("nan")]], dtype=torch.float16)
    assert step_exponents(x, Numerics()).tolist() == [ZERO_TOKEN, ZERO_TOKEN]


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (torch.zeros(3, dtype=torch.float16), r"float16 of shape \(3,\)"),
        (torch.zeros(2, 3), r"float32 of shape \(2, 3\)"),
        (torch.zeros(2, 3, dtype=torch.int64), r"int64 of shape \(2, 3\)"),
    ],
)
def test_what_is_refused(x, found):
    with pytest.raises(ValueError, match=f"^Activations must be a matrix of float16, not {found}$"):
        align(x, Numerics())
