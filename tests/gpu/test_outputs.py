import numpy as np
import pytest
import torch

from lutra.formats import FLOATS
from lutra.gpu import (
    add_bias,
    convert_output,
    from_numpy,
    scale_tokens,
    split_row_scales,
    to_numpy,
)
from lutra.sim import add_bias as golden_add_bias
from lutra.sim import convert_output as golden_convert_output
from lutra.sim import scale_tokens as golden_scale_tokens


def bits(y):
    return y.view(f"u{y.itemsize}")


def edge_sums(rng):
    """Return sums at and beside every power of two, halves of float32 steps, and random ones."""
    powers = 1 << np.arange(63, dtype=np.int64)
    halves = powers[24:] + (powers[24:] >> 24)
    near = np.concatenate([powers, halves, powers[24:] + 3 * (powers[24:] >> 24)])
    near = np.concatenate([near - 1, near, near + 1])
    shifts = rng.integers(0, 62, 4000)
    return np.concatenate([near, rng.integers(0, 1 << 62, 4000) >> shifts, [0, (1 << 62) - 1]])


def edge_row_scales(rng):
    patterns = rng.integers(0, 1 << 32, 200, dtype=np.uint32)
    subnormals = rng.integers(1, 1 << 23, 50, dtype=np.uint32)
    edges = np.array([0, 1 << 31, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0xBF800000], dtype=np.uint32)
    scales = np.concatenate([edges, patterns, subnormals]).view(np.float32)
    return scales[np.isfinite(scales)]


@pytest.mark.parametrize("output", FLOATS)
def test_equals_golden(output):
    rng = np.random.default_rng(1)
    sums, scales = edge_sums(rng), edge_row_scales(rng)
    sums = np.concatenate([sums, -sums])
    rng.shuffle(sums)
    sums = sums[: len(sums) // len(scales) * len(scales)].reshape(-1, len(scales))
    exponent = np.resize(np.arange(-171, 128, dtype=np.int32), len(sums))
    significand, row_exponent = (from_numpy(part) for part in split_row_scales(scales))
    for move in range(0, 299, 7):
        moved = np.roll(exponent, move)
        flags = rng.integers(0, 2, len(sums)) == 1
        seen = convert_output(
            from_numpy(sums),
            from_numpy(moved),
            significand,
            row_exponent,
            output,
            from_numpy(flags),
        )
        expected = golden_convert_output(sums, moved, scales, output, flags)
        assert np.array_equal(bits(to_numpy(seen)), bits(expected))


def test_sums_are_rounded_once_to_float32():
    # A conversion by way of float64 would round the first of these twice.
    sums = np.array([[(1 << 62) + (1 << 38) + 1, -((1 << 54) + (1 << 30) + 1)] * 20])
    one = from_numpy(np.ones(40, dtype=np.float32))
    zero = torch.zeros(40, dtype=torch.int32)
    flags = torch.tensor([False])
    seen = convert_output(from_numpy(sums), zero[:1], one, zero, "float32", flags)
    assert seen[0, :2].tolist() == [2.0**62 + 2.0**39, -(2.0**54 + 2.0**31)]


def test_row_scales_multiply_to_themselves():
    scales = edge_row_scales(np.random.default_rng(2))
    significand, exponent = split_row_scales(scales)
    product = significand.astype(np.float64) * 2.0 ** exponent.astype(np.float64)
    assert np.array_equal(product, scales.astype(np.float64))
    assert ((np.abs(significand) >= 1) == (scales != 0)).all()
    assert (np.abs(significand) < 2).all()


def flushed(function, *arguments):
    """Call it while torch has the processor flush subnormals."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        return function(*arguments)
    finally:
        torch.set_flush_denormal(False)


def test_flushed_subnormals_change_nothing():
    scales = np.array([2.0**-149, 3 * 2.0**-140], dtype=np.float32)
    expected = split_row_scales(scales)
    seen = flushed(split_row_scales, scales)
    assert all(np.array_equal(*pair) for pair in zip(seen, expected, strict=True))


@pytest.mark.parametrize(
    ("ours", "golden", "axis"),
    [(scale_tokens, golden_scale_tokens, 0), (add_bias, golden_add_bias, 1)],
)
def test_host_steps_equal_golden(ours, golden, axis):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 1 << 32, (40, 50), dtype=np.uint32).view(np.float32)
    y[np.isnan(y)] = np.inf
    y[3] = np.array(FLOATS["float32"].quiet_nan, dtype=np.uint32).view(np.float32)
    factors = rng.integers(0, 1 << 32, y.shape[axis], dtype=np.uint32).view(np.float32)
    factors = np.where(np.isfinite(factors), factors, 0).astype(np.float32)
    seen = to_numpy(ours(from_numpy(y), from_numpy(factors)))
    assert np.array_equal(bits(seen), bits(golden(y, factors)))


@pytest.mark.parametrize(
    ("ours", "golden", "axis"),
    [(scale_tokens, golden_scale_tokens, 0), (add_bias, golden_add_bias, 1)],
)
def test_host_steps_flush_no_subnormals(ours, golden, axis):
    rng = np.random.default_rng(4)
    # Exponents around those where factors, results or both are subnormal, and ties among them.
    patterns = rng.integers(0, 1 << 32, (300, 300), dtype=np.uint32) & 0x80FFFFFF
    patterns &= np.where(rng.random((300, 300)) < 0.5, 0xFFFFFFFF, 0xFFFF8000).astype(np.uint32)
    y = patterns.view(np.float32)
    factors = rng.integers(0, 1 << 32, 300, dtype=np.uint32) & 0x80FF000F
    factors |= np.uint32(0x3E800000) * (np.arange(300) % 2 * (axis == 0)).astype(np.uint32)
    factors = np.where(np.isfinite(factors.view(np.float32)), factors.view(np.float32), 0)
    expected = golden(y, factors)
    assert ((expected != 0) & (np.abs(expected) < 2.0**-126)).mean() > 0.1
    seen = flushed(ours, from_numpy(y), from_numpy(factors))
    assert np.array_equal(bits(to_numpy(seen)), bits(expected))


@pytest.mark.parametrize(("step", "name"), [(scale_tokens, "Token scales"), (add_bias, "Bias")])
def test_host_steps_refuse(step, name):
    y = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=rf"^{name} must be float32 of shape \(2,\), not float64"):
        step(y, torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"of shape \(2,\), not float32 of shape \(3,\)$"):
        step(y, torch.zeros(3))
    with pytest.raises(ValueError, match=r"^Outputs must be a matrix of float32, not float16 of"):
        step(y.half(), torch.zeros(2))


@pytest.mark.parametrize("step", [scale_tokens, add_bias])
def test_host_steps_have_no_gradient(step):
    factors = torch.ones(2, requires_grad=True)
    for y in (torch.zeros(2, 2), torch.zeros(2, 2, requires_grad=True)):
        with pytest.raises(RuntimeError, match=r"There is no gradient through"):
            step(y, factors).sum().backward()
    assert not step(torch.zeros(2, 2), factors.detach()).requires_grad
