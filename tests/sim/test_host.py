import re
from fractions import Fraction

import numpy as np
import pytest

from lutra.sim import add_bias, scale_tokens


def _random(rng, shape):
    bits = rng.integers(0, 0x7F800000, shape) | rng.integers(0, 2, shape) << 31
    return bits.astype(np.uint32).view(np.float32)


def _nearest(value, candidates):
    """Pick the float32 nearest to a fraction, and the one with an even fraction field of two."""
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - value), c.view(np.uint32) & 1))


@pytest.mark.parametrize("step", ["scale", "bias"])
def test_one_rounding(step):
    rng = np.random.default_rng(5)
    y = (rng.standard_normal((40, 9)) * 2.0 ** rng.integers(-8, 8, (40, 9))).astype(np.float32)
    factors = rng.standard_normal(40 if step == "scale" else 9).astype(np.float32)
    result = scale_tokens(y, factors) if step == "scale" else add_bias(y, factors)
    for (token, row), number in np.ndenumerate(result):
        left = Fraction(float(y[token, row]))
        right = Fraction(float(factors[token if step == "scale" else row]))
        exact = left * right if step == "scale" else left + right
        neighbours = [np.nextafter(number, np.float32(side)) for side in (-np.inf, np.inf)]
        assert _nearest(exact, [number, *neighbours]) == number


def test_ends_of_the_range():
    y = np.array([[2.0**-126, np.inf, -np.inf, np.nan, -1.0]], dtype=np.float32)
    halved = scale_tokens(y, np.array([0.5], dtype=np.float32))
    # A host keeps subnormals.
    assert halved.view(np.uint32).tolist() == [
        [0x00400000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xBF000000]
    ]
    zeroed = scale_tokens(y, np.array([0.0], dtype=np.float32))
    assert zeroed.view(np.uint32).tolist() == [[0, 0x7FC00000, 0x7FC00000, 0x7FC00000, 1 << 31]]
    biased = add_bias(y, np.array([1, 1, 1, 1, 1], dtype=np.float32))
    assert biased.view(np.uint32).tolist() == [[0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0]]


def test_arguments_are_left_alone():
    y = np.full((2, 2), -np.nan, dtype=np.float32)
    before = y.view(np.uint32).copy()
    scale_tokens(y, np.ones(2, dtype=np.float32))
    add_bias(y, np.ones(2, dtype=np.float32))
    assert np.array_equal(y.view(np.uint32), before)


@pytest.mark.parametrize(
    ("step", "y_type", "factors", "sentence"),
    [
        (
            scale_tokens,
            np.float32,
            np.ones(3, dtype=np.float32),
            "Token scales must be float32 of shape (2,), not float32 of shape (3,)",
        ),
        (
            add_bias,
            np.float32,
            np.ones(3),
            "Bias must be float32 of shape (3,), not float64 of shape (3,)",
        ),
        (
            add_bias,
            np.float16,
            np.ones(3, dtype=np.float32),
            "Outputs must be a matrix of float32, not float16 of shape (2, 3)",
        ),
        (
            scale_tokens,
            np.float32,
            np.array([1, np.inf], dtype=np.float32),
            "Token scales must be finite; remove NaN and infinity",
        ),
    ],
)
def test_wrong_arrays(step, y_type, factors, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        step(np.zeros((2, 3), dtype=y_type), factors)
