"""The search for each group's signs and scales, for binary-coding formats."""

import numpy as np
import numpy.typing as npt

from ..formats import BinaryCodingFormat, NumberFormat
from .groups import QuantizedGroups
from .ordered_sum import ordered_sum

__all__ = ["SignSearch"]


class SignSearch:
    """Write each group as a few sign planes, each times a scale, plus an offset where allowed.

    The start is greedy: the offset is the mean of the weights; each plane holds the signs of what
    is left (0 counts as positive) and its scale is the mean magnitude of it. Every round then
    fits scales and offset to the signs by least squares, makes the scales positive and descending,
    and fits the signs to the scales: each weight takes the nearest of the ``2**planes`` sums, ties
    to the lower one. No step of a round raises the squared error but for rounding in float64.

    Where squared errors have factors, means and least squares are weighted by them.

    Parameters
    ----------
    number_format : NumberFormat
        A binary-coding format: how many planes, and whether there is an offset.
    rounds : int
        0 for the greedy start alone.

    Raises
    ------
    :exc:`ValueError`
        If the format is of another kind.

    Source
    ------
    Xu et al., Alternating Multi-bit Quantization, ICLR 2018, as Park et al., LUT-GEMM, ICLR 2024
    use it; greedy: Guo et al., Network Sketching, CVPR 2017.
    """

    def __init__(self, number_format: NumberFormat, rounds: int):
        if not isinstance(number_format, BinaryCodingFormat):
            raise ValueError(f"Format {number_format.name!r} must be a binary-coding format")
        self._planes = number_format.code_width
        self._offset = number_format.offset
        self._rounds = rounds
        codes = np.arange(1 << self._planes)
        self._signs = np.array([2 * (codes >> plane & 1) - 1 for plane in range(self._planes)])
        # Unknowns of the fit: one row of factors each; the offset's factor is always 1.
        ones = np.ones((int(self._offset), len(codes)), dtype=np.int64)
        self._factors = np.concatenate([self._signs, ones]).astype(np.float64)

    def __call__(
        self,
        weights: npt.NDArray[np.float32],
        factors: npt.NDArray[np.float64] | None = None,
        /,
    ) -> QuantizedGroups:
        """Quantise groups; see :class:`GroupSearch`."""
        exact = weights.astype(np.float64)
        codes, scales = self._greedy(exact, factors)
        for _ in range(self._rounds):
            scales = self._fit_scales(exact, codes, scales, factors)
            codes = self._nearest(exact, scales)
        count = weights.shape[1]
        return QuantizedGroups(
            codes=codes,
            format_ids=np.zeros(count, dtype=np.uint8),
            scales=scales.astype(np.float32),
            zeros=np.zeros(count, dtype=np.uint8),
        )

    def _greedy(self, weights, factors):
        length, count = weights.shape
        codes = np.zeros((length, count), dtype=np.uint8)
        scales = np.zeros((len(self._factors), count))
        rest = weights.copy()
        if self._offset:
            scales[-1] = _mean(rest, factors)
            rest -= scales[-1]
        for plane in range(self._planes):
            positive = rest >= 0
            codes |= positive.astype(np.uint8) << np.uint8(plane)
            scales[plane] = _mean(np.abs(rest), factors)
            rest -= np.where(positive, scales[plane], -scales[plane])
        return codes, scales

    def _fit_scales(self, weights, codes, scales, factors):
        """Minimise the squared error over the scales; signs that coincide do no harm."""
        count = weights.shape[1]
        cells = codes.astype(np.intp)
        cells *= count
        cells += np.arange(count)
        cells = cells.ravel()
        size = self._factors.shape[1]
        # All that the fit needs of the weights: how many have each code, and their sum.
        each = None if factors is None else factors.ravel()
        numbers = np.bincount(cells, each, minlength=size * count).reshape(size, count)
        each = weights.ravel() if factors is None else (weights * factors).ravel()
        sums = np.bincount(cells, each, minlength=size * count).reshape(size, count)
        gram = np.einsum("ic,jc,cn->ijn", self._factors, self._factors, numbers)
        fitted = _conjugate_gradients(gram, _weighted(self._factors, sums), scales)
        fitted[: self._planes] = -np.sort(-np.abs(fitted[: self._planes]), axis=0)
        return fitted

    def _nearest(self, weights, scales):
        """Return for each weight the code of the nearest sum."""
        sums = _weighted(self._factors.T, scales)
        order = np.argsort(sums, axis=0, kind="stable")
        ordered = np.take_along_axis(sums, order, axis=0)
        ranks = np.zeros(weights.shape, dtype=np.uint8)
        for middle in (ordered[:-1] + ordered[1:]) / 2:
            ranks += weights > middle
        return np.take_along_axis(order.astype(np.uint8), ranks.astype(np.intp), axis=0)


def _mean(values, factors):
    """Return the mean of each column, weighted where there are factors; 0 where all are 0."""
    if factors is None:
        return ordered_sum(values) / len(values)
    total = ordered_sum(factors)
    return ordered_sum(values * factors) / np.where(total > 0, total, 1)


def _weighted(factors, values):
    """Return ``factors @ values``, added in the same order whatever the number of columns."""
    return np.stack([ordered_sum(row[:, None] * values) for row in factors])


def _conjugate_gradients(matrices, right, start):
    """Solve small symmetric systems, one for each last index, from a given start.

    As many steps as unknowns are enough. Singular systems are solved as well, unlike by
    elimination, and no step raises the error.

    Parameters
    ----------
    matrices : float64 array, shape (unknowns, unknowns, count)
        Positive semidefinite.
    right, start : float64 arrays, shape (unknowns, count)

    Returns
    -------
    float64 array, shape (unknowns, count)
    """
    solution = start.copy()
    residual = right - (matrices * solution).sum(axis=1)
    direction = residual.copy()
    square = (residual * residual).sum(axis=0)
    for _ in range(len(right)):
        image = (matrices * direction).sum(axis=1)
        curvature = (direction * image).sum(axis=0)
        # Once solved, only rounding is left in the direction; its curvature may be 0 or less.
        step = np.divide(square, curvature, out=np.zeros_like(square), where=curvature > 0)
        solution += step * direction
        residual -= step * image
        next_square = (residual * residual).sum(axis=0)
        ratio = np.divide(next_square, square, out=np.zeros_like(square), where=square > 0)
        direction = residual + ratio * direction
        square = next_square
    return solution
