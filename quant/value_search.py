"""The search for each group's format and scale, for formats that are value tables."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..formats import NumberFormat
from .groups import QuantizedGroups
from .ordered_sum import ordered_sum
from .value_grid import ValueGrid

__all__ = ["ValueSearch"]

_Floats = npt.NDArray[np.float32]

# Bounds of a scale. Those of BitMoD belong to its algorithm; otherwise a scale need only stay so
# large that a 16-bit second level can divide it without leaving float32's normal numbers.
_BITMOD_BOUNDS = (np.float32(1e-5), np.float32(1e4))
_PLAIN_BOUNDS = (np.float32(2.0**-110), np.finfo(np.float32).max)


class ValueSearch:
    """Give each group the member and the scale with the smallest mean squared error.

    For each member, then for each ratio, in their order:

    1. ``delta = max|w| / reach`` in float32, within bounds, times the ratio in float32, where
       ``reach`` is the largest magnitude of the member's values. With a zero-point it is
       ``(max(w, 0) - min(w, 0)) / reach``, where ``reach`` is the range of the values, and the
       zero-point is the code nearest to ``min(w, 0)``, counted from the lowest value;
    2. ``x = w / delta`` in float32, and ``v`` the nearest value, ties to the lower one;
    3. the error ``mean((v * delta - w)**2)``: float64, squares added in the order of the columns,
       each times its factor where there are factors.

    The first of the smallest errors is taken. With several members this is BitMoD's search, with
    its bounds of 1e-5 and 1e4 on ``delta``; a format by itself has no bounds that matter. A group
    of zeros has scale 0, the first member and the codes of 0.

    Parameters
    ----------
    members : sequence of NumberFormat
        Value formats to choose from.
    ratios : sequence of float
        Clipping ratios, each at most 1.

    Raises
    ------
    :exc:`ValueError`
        If a member is not a value format.

    Source
    ------
    Chen et al., BitMoD, HPCA 2025, algorithm 1, and its authors' code for bounds and ties.
    """

    def __init__(self, members: Sequence[NumberFormat], ratios: Sequence[float] = (1.0,)):
        self._grid = ValueGrid(members)
        self._bounds = _BITMOD_BOUNDS if len(members) > 1 else _PLAIN_BOUNDS
        self._candidates = [
            (member, np.float32(ratio)) for member in range(len(members)) for ratio in ratios
        ]

    def __call__(
        self,
        weights: npt.NDArray[np.float32],
        factors: npt.NDArray[np.float64] | None = None,
        /,
    ) -> QuantizedGroups:
        """Quantise groups; see :class:`GroupSearch`."""
        low = np.minimum(weights.min(axis=0), 0)
        high = np.maximum(weights.max(axis=0), 0)
        member, delta, zero = self._search(weights, low, high, factors)
        grid = self._grid
        zero_codes = grid.codes[grid.slots(zero[None].copy(), member)[0]]
        return QuantizedGroups(
            codes=grid.codes.take(grid.slots(_in_steps(weights, delta), member, zero)),
            format_ids=member.astype(np.uint8),
            scales=delta[None],
            zeros=np.where(grid.has_zero_point[member], zero_codes, np.uint8(0)),
        )

    def _search(self, weights: _Floats, low: _Floats, high: _Floats, factors):
        """Return the best member, scale and value of the zero-point for each group."""
        count = weights.shape[1]
        exact = weights.astype(np.float64)
        best_error = np.full(count, np.inf)
        best_member = np.zeros(count, dtype=np.intp)
        best_delta = np.zeros(count, dtype=np.float32)
        best_zero = np.zeros(count, dtype=np.float32)
        for member, ratio in self._candidates:
            delta, zero = self._scale(member, low, high)
            delta *= ratio
            if len(self._candidates) == 1:
                return best_member, delta, zero
            error = self._error(weights, exact, member, delta, zero, factors)
            better = error < best_error
            np.copyto(best_error, error, where=better)
            np.copyto(best_member, member, where=better)
            np.copyto(best_delta, delta, where=better)
            np.copyto(best_zero, zero, where=better)
        return best_member, best_delta, best_zero

    def _scale(self, member: int, low: _Floats, high: _Floats) -> tuple[_Floats, _Floats]:
        """Return the unclipped scale and the value of the zero-point for each group."""
        grid = self._grid
        # float64 keeps the extent of opposite extremes finite; rounded to float32, the quotient is
        # the same as that of a division in float32.
        wide_low, wide_high = low.astype(np.float64), high.astype(np.float64)
        if grid.has_zero_point[member]:
            extent = wide_high - wide_low
        else:
            extent = np.maximum(-wide_low, wide_high)
        delta = np.clip((extent / grid.reach[member]).astype(np.float32), *self._bounds)
        delta[extent == 0] = 0
        if not grid.has_zero_point[member]:
            return delta, np.zeros_like(delta)
        slots = grid.slots(_in_steps(-low[None], delta), member, grid.lowest(member))
        return delta, grid.values[slots[0]].astype(np.float32)

    def _error(self, weights, exact, member: int, delta: _Floats, zero: _Floats, factors):
        """Return the mean squared error of each group."""
        slots = self._grid.slots(_in_steps(weights, delta), member, zero)
        errors = self._grid.values.take(slots)
        errors -= zero
        errors *= delta.astype(np.float64)
        errors -= exact
        errors *= errors
        if factors is not None:
            errors *= factors
        return ordered_sum(errors) / len(weights)


def _in_steps(weights: _Floats, delta: _Floats) -> _Floats:
    """Return weights in steps of the grid; a group with scale 0 has only zeros."""
    divisors = np.where(delta > 0, delta, np.float32(1))
    return np.divide(weights, divisors, dtype=np.float32)
