import numpy as np
import pytest
import torch

from lutra.formats import FLOATS, Numerics
from lutra.gpu import align, from_numpy, launch
from lutra.sim import DTYPES, adversarial_tokens, nonfinite_tokens

NUMERICS = [
    *(Numerics(activation=name, act_width=w) for name in FLOATS for w in (8, 9, 15, 16, 22, 24)),
    Numerics(act_width="exact"),
    Numerics(activation="int8", act_width=8),
]


def check(x, numerics, device, exponent=None, group_size=None, padded_group=None):
    """Compare with the aligner in torch, which the golden model's is compared with elsewhere."""
    columns = x.shape[1]
    group_size = group_size or columns
    padded_group = padded_group or columns
    groups = -(-columns // group_size)
    expected = align(x, numerics, exponent)
    digits, exponents, flags = launch.launch_align(
        x.to(device),
        numerics,
        group_size,
        padded_group,
        groups,
        None if exponent is None else exponent.to(device),
    )
    assert torch.equal(exponents.cpu(), expected.exponent)
    assert torch.equal(flags.cpu().bool(), expected.nonfinite)
    low, high = digits[:, :-1].cpu(), digits[:, -1].cpu()
    assert (low >= 0).all()
    total = high.long() << (7 * low.shape[1])
    for place in range(low.shape[1]):
        total += low[:, place].long() << (7 * place)
    total = total.view(len(x), groups, padded_group)
    assert not total[:, :, group_size:].any()
    assert torch.equal(total[:, :, :group_size].flatten(1)[:, :columns], expected.X)
    assert not total[:, :, :group_size].flatten(1)[:, columns:].any()


@pytest.fixture(autouse=True)
def _long_blocks(monkeypatch, device):
    if device == "cpu":  # the interpreter's time goes with the number of blocks
        monkeypatch.setattr(launch, "_ALIGN_BLOCK", 1 << 16)


@pytest.mark.parametrize("numerics", NUMERICS, ids=lambda n: f"{n.activation}-{n.act_width}")
def test_adversarial_tokens(numerics, device):
    tokens = adversarial_tokens(numerics, 37) | nonfinite_tokens(numerics, 37)
    check(from_numpy(np.stack(list(tokens.values()))), numerics, device, None, 16, 32)


@pytest.mark.parametrize(
    ("name", "act_width"),
    [("float16", 8), ("float16", 16), ("float16", 24), ("float16", "exact"), ("bfloat16", 9)],
)
def test_every_pattern_of_16_bits_below_every_exponent(name, act_width, device):
    # A token for each exponent, of all patterns up to there; subnormal maxima besides.
    kind = FLOATS[name]
    patterns = np.arange(1 << 16, dtype=np.uint16)
    step = 1 if kind.exponent_width == 5 else 23
    tops = [*range(0, kind.exponent_mask, step)]
    limits = [(top + 1) << kind.fraction_width for top in tops] + [2, 3, 5, 33, 64]
    magnitude = patterns & 0x7FFF
    x = np.where(magnitude[None] < np.array(limits)[:, None], patterns, 0).astype(np.uint16)
    numerics = Numerics(activation=name, act_width=act_width)
    check(from_numpy(x.view(DTYPES[name])), numerics, device)


def test_blocks_of_a_long_token(monkeypatch, device):
    monkeypatch.setattr(launch, "_ALIGN_BLOCK", 64)
    rng = np.random.default_rng(1)
    x = from_numpy(rng.standard_normal((3, 300), dtype=np.float32))
    check(x, Numerics(activation="float32", act_width=24), device, None, 50, 64)
    check(x, Numerics(activation="float32", act_width=24), device, None, 5, 8)


def test_given_exponents_and_strides(device):
    numerics = Numerics()
    x = from_numpy(np.stack(list(adversarial_tokens(numerics, 24).values())))
    exponent = align(x, numerics).exponent
    check(x[:, ::2], numerics, device, exponent)
    check(x[:, 12:], numerics, device, exponent)
