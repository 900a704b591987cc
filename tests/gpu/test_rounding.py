import numpy as np
import pytest
import torch

from lutra.gpu import from_numpy, to_numpy
from lutra.gpu.rounding import narrow, narrow_to_odd, widen


@pytest.fixture(params=[False, True], ids=["kept", "flushed"])
def run(request):
    """Call functions while torch has the processor keep subnormals, or flush them."""

    def call(function, x):
        if request.param and not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot flush subnormals")
        try:
            return function(x)
        finally:
            torch.set_flush_denormal(False)

    return call


def float64_numbers():
    """Ties of float32, float16 and bfloat16, numbers just beside them, and the ends of ranges."""
    rng = np.random.default_rng(1)
    power = rng.integers(-160, 130, 20000)
    places = rng.choice([7, 8, 10, 11, 23, 24], len(power))
    whole = np.floor(rng.random(len(power)) * 2.0**places) + 2.0**places
    beside = rng.choice([0, 0.5, 0.5 - 2.0**-26, 0.5 + 2.0**-26, 0.25], len(power))
    sign = rng.choice([-1.0, 1.0], len(power))
    numbers = sign * (whole + beside) * 2.0 ** (power - places)
    ends = [0.0, -0.0, np.inf, -np.inf, 2.0**128, 2.0**128 - 2.0**103, 65520.0, 1e300, 2.0**-1000]
    return np.concatenate([numbers, ends, [65519.99999999999, -1e-300]])


def test_widen_and_narrow_give_back_all_bits(run):
    bits = np.random.default_rng(2).integers(0, 1 << 32, 100000, dtype=np.uint32)
    bits[::2] &= 0x807FFFFF
    x = bits.view(np.float32)
    x = from_numpy(np.where(np.isnan(x), np.float32(0), x))
    wide = run(widen, x)
    assert torch.equal(run(narrow, wide).view(torch.int32), x.view(torch.int32))
    assert np.array_equal(to_numpy(wide).view("u8"), x.numpy().astype("f8").view("u8"))


def test_narrow_is_numpy_s(run):
    x = float64_numbers()
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(np.float32)
    assert np.array_equal(to_numpy(run(narrow, from_numpy(x))).view("u4"), expected.view("u4"))


def test_once_to_float16(run):
    x = float64_numbers()
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(np.float16)
        assert (x.astype(np.float32).astype(np.float16) != expected).any()
    seen = to_numpy(run(lambda x: narrow_to_odd(x).to(torch.float16), from_numpy(x)))
    assert np.array_equal(seen.view("u2"), expected.view("u2"))


def test_once_to_bfloat16(run):
    x = float64_numbers()
    x = x[np.isfinite(x) & (np.abs(x) < 2.0**127)]
    # Steps of bfloat16 of each number, counted in integers that NumPy rounds half to even.
    step = np.maximum(np.frexp(x)[1] - 8, -133)
    expected = np.ldexp(np.rint(np.ldexp(x, -step)), step).astype(np.float32)
    assert (from_numpy(x).float().bfloat16().float().numpy() != expected).any()
    seen = run(lambda x: narrow_to_odd(x).to(torch.bfloat16), from_numpy(x)).view(torch.int16)
    assert np.array_equal(seen.numpy().view("u2"), (expected.view("u4") >> 16).astype("u2"))
