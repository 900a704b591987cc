"""Float scales as integers times a power of two: exactly, and as small as can be."""

import re
from fractions import Fraction

import numpy as np
import pytest

from lutra.quant.exact_scales import exact_scales


def _random(dtype, shape=(7, 5, 2), *, seed=1, spread=6):
    """Draw significands from 1 to 2, of both signs; rows have exponents of their own."""
    rng = np.random.default_rng(seed)
    scales = rng.uniform(1, 2, shape) * 2.0 ** rng.integers(-spread, spread + 1, shape)
    scales *= rng.choice([-1, 1], shape)
    scales *= 2.0 ** rng.integers(-12, 3, (shape[0], 1, 1))
    return scales.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_rounding(dtype):
    """Numbers of float16, and of float32 whose exponents differ little."""
    spread = 1 if dtype == np.float32 else 6
    scales = _random(dtype if dtype == np.float32 else np.float16, spread=spread).astype(dtype)
    integers, row_scales, width = exact_scales(scales)
    assert (integers.dtype, row_scales.dtype) == (np.int32, np.float32)
    assert integers.shape == scales.shape
    assert row_scales.shape == (7,)
    for index in np.ndindex(scales.shape):
        made = int(integers[index]) * Fraction(float(row_scales[index[0]]))
        assert made == Fraction(float(scales[index]))
    assert width == int(np.abs(integers.astype(np.int64)).max()).bit_length()


def test_integers_are_as_small_as_they_can_be():
    """Some integer of each row is odd, and row scales are powers of two."""
    integers, row_scales, _ = exact_scales(_random(np.float16))
    assert (integers % 2 == 1).any(axis=(1, 2)).all()
    assert (np.frexp(row_scales)[0] == 0.5).all()


@pytest.mark.parametrize(
    ("rows", "integers", "row_scales", "width"),
    [
        ([[0.0, 0.0], [3.0, -5.0]], [[0, 0], [3, -5]], [0, 1], 3),
        ([[0.75, -0.0], [0.5, 0.0]], [[3, 0], [1, 0]], [0.25, 0.5], 2),
        ([[0.0, 0.0]], [[0, 0]], [0], 1),
        ([[2.0**-149, 3 * 2.0**-149]], [[1, 3]], [2.0**-149], 2),
        ([[2.0**127, -(2.0**127)]], [[1, -1]], [2.0**127], 1),
        ([[2.0**30, 1.0 + 2.0**30]], [[1 << 30, (1 << 30) + 1]], [1], 31),
        ([[2.0**31 - 1, -1.0]], [[(1 << 31) - 1, -1]], [1], 31),
        # Beyond what float32 holds as a power of two: 2^129 is 4 * 2^127.
        ([[2.0**129, 2.0**130]], [[4, 8]], [2.0**127], 4),
    ],
)
def test_known_rows(rows, integers, row_scales, width):
    made = exact_scales(np.array(rows, dtype=np.float64)[:, None])
    assert made[0][:, 0].tolist() == integers
    assert made[1].tolist() == row_scales
    assert made[2] == width


TOO_FAR = (
    "Scales of row {} need {} bits as integers times a power of two, 2^{}; at most 31 bits and "
    "2^-149 can be had, so the layer cannot be taken over without rounding"
)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[1, 1], [1, np.nan], [np.inf, 1]], "Scales must be finite; row 1 has NaN or infinity"),
        ([[1, 1], [2.0**31, 1], [2.0**40, 1]], TOO_FAR.format(1, 32, 0)),
        ([[1, 1 + 2.0**-31]], TOO_FAR.format(0, 32, -31)),
        ([[2.0**-150, 0]], TOO_FAR.format(0, 1, -150)),
    ],
)
def test_refused(rows, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        exact_scales(np.array(rows, dtype=np.float64)[:, None])
