"""Section 3 of the arithmetic contract: exact integer sums at the speed of a float64 product."""

import numpy as np
import numpy.typing as npt

from ..formats.numerics import MAX_SUM_WIDTH

__all__ = ["ExactProduct", "exact_product"]

# Every integer up to here is a float64, so sums that stay within it are exact in any order.
_FLOAT64_PEAK = 1 << 53


class ExactProduct:
    """Integer weights, kept ready for exact products with many activations.

    Parameters
    ----------
    weights : integer array, shape (N, K)
        The rows that are multiplied.

    Attributes
    ----------
    row_sum : int
        Largest sum of magnitudes of a row; times the peak of the activations, it bounds every
        partial sum in every order.
    """

    def __init__(self, weights: npt.NDArray[np.integer]):
        columns = weights.shape[1]
        largest = max(int(weights.max()), -int(weights.min()))
        if largest * columns < 1 << 63:
            self.row_sum = int(np.abs(weights.astype(np.int64)).sum(axis=1).max())
        else:  # an upper bound will do, since no such sum is allowed anyway
            self.row_sum = largest * columns
        # Digits of activations need room for one bit at least beside the weights.
        is_small = 2 * self.row_sum <= _FLOAT64_PEAK
        self._weights = weights.astype(np.float64 if is_small else np.int64)

    def check(self, peak: int) -> None:
        """Refuse activations whose exact sums could need too many bits.

        Raises
        ------
        :exc:`ValueError`
            If ``peak * row_sum`` needs more than ``MAX_SUM_WIDTH`` bits, sign included.
        """
        width = (peak * self.row_sum).bit_length() + 1
        if width > MAX_SUM_WIDTH:
            raise ValueError(
                f"The exact sum must fit {MAX_SUM_WIDTH} bits, but may need {width}: reduce "
                f"act_width, scale_width or the number of columns"
            )

    def __call__(self, x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return ``x @ weights.T`` without any rounding.

        Parameters
        ----------
        x : int64 array, shape (M, K)

        Returns
        -------
        int64 array, shape (M, N)

        Raises
        ------
        :exc:`ValueError`
            If a sum could need too many bits.
        """
        peak = max(int(x.max(initial=0)), -int(x.min(initial=0)))
        self.check(peak)
        if self._weights.dtype == np.int64:
            return np.matmul(x, self._weights.T, dtype=np.int64)
        if peak * self.row_sum <= _FLOAT64_PEAK:
            return self._product(x)
        return self._product_of_digits(x, peak)

    def _product(self, x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # Weights on the left: for few tokens, BLAS is up to twice as fast this way round.
        sums = self._weights @ x.astype(np.float64).T
        return np.ascontiguousarray(sums.T).astype(np.int64)

    def _product_of_digits(self, x: npt.NDArray[np.int64], peak: int) -> npt.NDArray[np.int64]:
        """Cut activations into digits that are small enough, and take all in one product."""
        digit_width = (_FLOAT64_PEAK // max(self.row_sum, 1)).bit_length() - 1
        shifts = range(0, peak.bit_length(), digit_width)
        low = (1 << digit_width) - 1
        # Low digits are unsigned; the top one keeps the sign and is at least -2**digit_width.
        digits = [x >> shift & low for shift in shifts[:-1]] + [x >> shifts[-1]]
        parts = self._product(np.concatenate(digits)).reshape(len(digits), x.shape[0], -1)
        total = parts[0]
        for shift, part in zip(shifts[1:], parts[1:], strict=True):
            total += part << shift  # may wrap on the way; int64 adds modulo 2**64, so no harm
        return total


def exact_product(
    weights: npt.NDArray[np.integer], x: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return ``x @ weights.T`` without any rounding; see :class:`ExactProduct` for many products.

    Parameters
    ----------
    weights : integer array, shape (N, K)
    x : int64 array, shape (M, K)

    Returns
    -------
    int64 array, shape (M, N)

    Raises
    ------
    :exc:`ValueError`
        If a sum could need more than 63 bits.
    """
    return ExactProduct(weights)(x)
