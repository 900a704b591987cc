import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from lutra.gpu.kernel_bits import dp4a, permute_bytes

PORTABLE = (False, True)


@triton.jit
def dp4a_kernel(a, b, c, out, PORTABLE: tl.constexpr):
    """Take the products of 1024 words."""
    i = tl.arange(0, 1024)
    tl.store(out + i, dp4a(tl.load(a + i), tl.load(b + i), tl.load(c + i), PORTABLE))


@triton.jit
def permute_kernel(a, b, selector, out, PORTABLE: tl.constexpr):
    """Permute the bytes of 1024 words."""
    i = tl.arange(0, 1024)
    value = permute_bytes(tl.load(a + i), tl.load(b + i), tl.load(selector + i), PORTABLE)
    tl.store(out + i, value)


def words(seed):
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 256, (1024, 4), dtype=np.uint8)
    found[:8] = [[0x80] * 4, [0x7F] * 4, [0] * 4, [0xFF] * 4] * 2
    return found


def run(kernel, device, *arrays, portable):
    if device == "cpu" and not portable:
        pytest.skip("the interpreter knows no PTX")
    out = torch.empty(1024, dtype=torch.int32, device=device)
    tensors = (torch.from_numpy(array).view(torch.int32).flatten() for array in arrays)
    kernel[(1,)](*(tensor.to(device) for tensor in tensors), out, PORTABLE=portable)
    return out.cpu().numpy()


@pytest.mark.parametrize("portable", PORTABLE)
def test_dp4a(portable, device):
    a, b = words(1), np.roll(words(2), 1, axis=0)
    c = words(3)
    expected = (a.view(np.int8).astype(np.int64) * b.view(np.int8)).sum(axis=1)
    expected = (expected + c.view(np.int32)[:, 0]).astype(np.int32)  # wraps, as hardware does
    assert np.array_equal(run(dp4a_kernel, device, a, b, c, portable=portable), expected)


@pytest.mark.parametrize("portable", PORTABLE)
def test_permute_bytes(portable, device):
    a, b = words(1), words(2)
    selector = words(3) & 0x77
    nibbles = np.stack([selector[:, :2] & 15, selector[:, :2] >> 4], axis=2).reshape(-1, 4)
    expected = np.take_along_axis(np.hstack([a, b]), nibbles.astype(np.intp), axis=1)
    seen = run(permute_kernel, device, a, b, selector, portable=portable)
    assert np.array_equal(seen.view(np.uint8).reshape(-1, 4), expected)
