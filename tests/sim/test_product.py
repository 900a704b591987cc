import numpy as np
import pytest

from lutra.sim import ExactProduct, exact_product


def _loop(weights, x):
    """Plain int64 accumulation, one element at a time."""
    total = np.zeros((x.shape[0], weights.shape[0]), dtype=np.int64)
    for column in range(weights.shape[1]):
        total += x[:, column, None] * weights[:, column].astype(np.int64)
    return total


@pytest.mark.parametrize(
    ("weight_width", "act_width"),
    [
        (4, 8),
        (12, 24),
        (26, 21),
        (26, 22),
        (28, 20),
        (28, 24),
        (11, 41),
        (20, 36),
        (35, 22),
        (50, 6),
    ],
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 37), (2, 9, 64)])
def test_equals_plain_loop(weight_width, act_width, shape):
    tokens, rows, columns = shape
    rng = np.random.default_rng(weight_width + act_width)
    weight_peak, act_peak = (1 << weight_width - 1) - 1, (1 << act_width - 1) - 1
    weights = rng.integers(-weight_peak, weight_peak + 1, (rows, columns))
    x = rng.integers(-act_peak, act_peak + 1, (tokens, columns))
    assert np.array_equal(exact_product(weights, x), _loop(weights, x))
    # All-extreme, and cancelling but for the last element.
    weights = np.full((rows, columns), weight_peak)
    x = np.full((tokens, columns), -act_peak)
    assert np.array_equal(exact_product(weights, x), _loop(weights, x))
    x[:, ::2] = act_peak
    assert np.array_equal(exact_product(weights, x), _loop(weights, x))


@pytest.mark.parametrize(
    ("weights", "x", "total"),
    [
        # The bound 2**53 itself, and right above it, where float64 has no odd integers.
        ([1, 1], [1 << 52, 1 << 52], 1 << 53),
        ([1, 1], [(1 << 52) + 1, 1 << 52], (1 << 53) + 1),
        ([1, -1], [-(1 << 52) - 1, 1 << 52], -(1 << 53) - 1),
        ([1 << 26, 1], [1 << 27, 1], (1 << 53) + 1),
        ([1 << 26, -1], [-(1 << 27), 1], -(1 << 53) - 1),
        ([(1 << 26) + 1, 1], [(1 << 27) + 1, 1], ((1 << 26) + 1) * ((1 << 27) + 1) + 1),
        # An odd partial sum beyond 2**53 that cancels at the end.
        ([1 << 26, 1, -(1 << 26)], [1 << 28, 1, 1 << 28], 1),
        # Sums of weights at and above the largest that leaves room for digits of one bit.
        ([(1 << 52) - 1, 1], [3, -2], 3 * (1 << 52) - 5),
        ([(1 << 52) - 1, 2], [3, -1], 3 * (1 << 52) - 5),
        ([(1 << 60) - 1, 1], [1, 1], 1 << 60),
        # The widest sums of all.
        ([1, 1], [(1 << 61) - 1, (1 << 61) - 1], (1 << 62) - 2),
        ([3, 0], [((1 << 62) - 1) // 3, 5], (1 << 62) - 1),
        ([-3, 0], [((1 << 62) - 1) // 3, 5], 1 - (1 << 62)),
        ([0, 0], [1 << 61, -(1 << 61)], 0),
    ],
)
def test_around_the_bounds(weights, x, total):
    weights, x = np.array([weights], dtype=np.int64), np.array([x], dtype=np.int64)
    assert exact_product(weights, x).tolist() == [[total]]


@pytest.mark.parametrize("row_width", range(20, 54))
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_every_digit_width(row_width, excess):
    columns = 8
    each = (1 << row_width) // columns
    weights = np.full((2, columns), each)
    weights[0, 0] += excess
    weights[1, ::2] *= -1
    peak = ((1 << 62) - 1) // int(np.abs(weights).sum(axis=1).max())
    rng = np.random.default_rng(row_width)
    x = np.stack([
        np.full(columns, peak),
        np.full(columns, -peak),
        rng.integers(-peak, peak, columns, endpoint=True),
        np.resize([peak, 1 - peak], columns),
    ])
    assert np.array_equal(exact_product(weights, x), _loop(weights, x))


def test_small_integer_types_do_not_overflow():
    weights = np.array([[-128, 127]], dtype=np.int8)
    assert exact_product(weights, np.array([[-128, 127]])).tolist() == [[128**2 + 127**2]]
    weights = np.array([[-(1 << 31), (1 << 31) - 1]], dtype=np.int32)
    assert exact_product(weights, np.array([[1 << 20, 1]])).tolist() == [
        [(1 << 31) - 1 - (1 << 51)]
    ]


def test_no_tokens():
    assert exact_product(np.ones((4, 3), dtype=int), np.zeros((0, 3), dtype=int)).shape == (0, 4)


@pytest.mark.parametrize(
    ("weights", "x", "width"),
    [
        ([1, 1], [1 << 61, 0], 64),
        ([1 << 31, 0], [-(1 << 31), 0], 64),
        ([1 << 62, -(1 << 62)], [1, 1], 65),
        ([-(1 << 63), 0], [1, 1], 66),
    ],
)
def test_wide_sums_are_refused(weights, x, width):
    sentence = (
        f"^The exact sum must fit 63 bits, but may need {width}: "
        f"reduce act_width, scale_width or the number of columns$"
    )
    weights, x = np.array([weights], dtype=np.int64), np.array([x], dtype=np.int64)
    with pytest.raises(ValueError, match=sentence):
        exact_product(weights, x)


def test_row_sum_is_of_the_widest_row():
    assert ExactProduct(np.array([[1, 2, 3], [-4, 0, 3]])).row_sum == 7
