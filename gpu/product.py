"""Section 3 of the arithmetic contract in torch: exact sums from float64 products."""

import torch
from torch import Tensor

__all__ = ["FLOAT64_PEAK", "exact_product"]

FLOAT64_PEAK = 1 << 53
"""Every integer up to here is a float64, so sums that stay within it are exact in any order."""


def exact_product(x: Tensor, weights: Tensor, *, peak: int, row_sum: int) -> Tensor:
    """Return ``x @ weights.T`` without any rounding.

    Bounds are given and not measured, so that nothing waits for a device. Activations are cut into
    as few digits as keep every partial sum a float64.

    Parameters
    ----------
    x : int64 tensor, shape (M, K)
        Of at most ``peak`` in magnitude.
    weights : float64 tensor, shape (N, K)
        Integers.
    peak, row_sum : int
        Bound of the activations, and of the sums of magnitudes of the rows of weights;
        ``2 * row_sum`` is at most ``FLOAT64_PEAK``.

    Returns
    -------
    int64 tensor, shape (M, N)
        Exact as long as ``peak * row_sum`` is below 2**63.
    """
    digit_width = (FLOAT64_PEAK // max(row_sum, 1)).bit_length() - 1
    if peak * row_sum <= FLOAT64_PEAK:
        return _product(x, weights)
    shifts = range(0, peak.bit_length(), digit_width)
    low = (1 << digit_width) - 1
    # Low digits are unsigned; the top one keeps the sign and is at least -2**digit_width.
    total = _product(x >> shifts[-1], weights) << shifts[-1]
    for shift in shifts[:-1]:
        total += _product(x >> shift & low, weights) << shift  # modulo 2**64, so no harm
    return total


def _product(x: Tensor, weights: Tensor) -> Tensor:
    # Weights on the left: for few tokens on a processor, BLAS is faster this way round.
    return torch.mm(weights, x.to(torch.float64).T).T.to(torch.int64).contiguous()
