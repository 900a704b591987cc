import numpy as np
import pytest
import torch

from lutra.gpu.product import FLOAT64_PEAK, exact_product


@pytest.mark.parametrize(
    ("x_bits", "weight_bits"),
    [(7, 3), (7, 28), (15, 12), (15, 28), (23, 3), (23, 28), (40, 3), (40, 12), (40, 20)],
)
def test_equals_python_integers(x_bits, weight_bits):
    rng = np.random.default_rng([x_bits, weight_bits])
    columns = min(300, 1 << max(62 - x_bits - weight_bits, 0))
    weights = rng.integers(-(1 << weight_bits), 1 << weight_bits, (6, columns))
    weights[0] = (1 << weight_bits) - 1
    peak = (1 << x_bits) - 1
    x = rng.integers(-peak, peak, (5, columns), endpoint=True)
    x[0], x[1], x[2, :] = peak, -peak, 1
    row_sum = int(np.abs(weights).sum(axis=1).max())
    seen = exact_product(
        torch.from_numpy(x), torch.from_numpy(weights).double(), peak=peak, row_sum=row_sum
    )
    expected = [[sum(a * b for a, b in zip(token, row, strict=True)) for row in weights.tolist()]
                for token in x.tolist()]  # fmt: skip
    assert seen.dtype == torch.int64
    assert seen.tolist() == expected


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_at_the_end_of_float64(excess):
    # Products whose last bit counts, where the bound is just met and just missed.
    weights = torch.tensor([[float((1 << 30) - 1), 1.0]], dtype=torch.float64)
    row_sum = 1 << 30
    peak = FLOAT64_PEAK // row_sum + excess
    x = torch.tensor([[peak, -1], [-peak, 1]])
    expected = peak * ((1 << 30) - 1) - 1
    seen = exact_product(x, weights, peak=peak, row_sum=row_sum)
    assert seen.tolist() == [[expected], [-expected]]


def test_zeros():
    x, weights = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(4, 3, dtype=torch.float64)
    assert exact_product(x, weights, peak=1 << 40, row_sum=0).tolist() == [[0] * 4] * 2
