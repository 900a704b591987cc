"""One scale for a whole layer, found on a histogram of its weights."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .groups import QuantizedGroups, search_groups
from .value_grid import ValueGrid

__all__ = ["slim_quant"]

_Floats = npt.NDArray[np.float32]
_FEWEST_BINS, _MOST_BINS, _WEIGHTS_A_BIN = 512, 20_000, 1000
_COARSE = 10


def slim_quant(
    weights: _Floats, family: Family, group_size: int, scale_width: int
) -> QuantizedMatrix:
    """Quantise with one clipping bound for the layer, that of least error on a histogram.

    Magnitudes are counted in ``max(512, min(weights / 1000, 20000))`` bins, for either sign. Ten
    bounds are tried, then every bin between the neighbours of the best. The error of a bound is
    that of the format's own rounding; the authors' code has another one.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        One value format without a zero-point.
    group_size : int
        1 to K; all groups have the same scale.
    scale_width : int
        Magnitude bits of a group scale; all integers are the largest.

    Source
    ------
    Mozaffari et al., SLiM, ICML 2025, 2410.09615, section 3.1, SLiM-Quant.
    """
    grid = ValueGrid(family.members)
    # Near 1, so that bins of the tiniest weights are still numbers; a power of two rounds nothing.
    exponent = int(np.frexp(np.abs(weights).max())[1])
    bound = np.ldexp(_bound(np.ldexp(weights, -exponent), grid), exponent)
    delta = np.float32(bound / grid.reach[0])

    def search(some: _Floats, factors: object = None, /) -> QuantizedGroups:
        count = some.shape[1]
        return QuantizedGroups(
            codes=grid.codes[_slots(grid, some, delta)],
            format_ids=np.zeros(count, np.uint8),
            scales=np.full((1, count), delta),
            zeros=np.zeros(count, np.uint8),
        )

    found = search_groups(weights, search, members=family.members, group_size=group_size)
    return found.split(scale_width)


def _bound(weights: _Floats, grid: ValueGrid) -> float:
    """Return the bound of least error."""
    magnitudes = np.abs(weights).reshape(-1)
    top = float(magnitudes.max())
    if not top:
        return 0.0
    bins = max(_FEWEST_BINS, min(weights.size // _WEIGHTS_A_BIN, _MOST_BINS))
    positive = weights.reshape(-1) > 0
    counts = [
        np.histogram(magnitudes[side], bins=bins, range=(0, top))[0]
        for side in (positive, ~positive)
    ]
    middles = (np.arange(bins) + 0.5) * (top / bins)
    values, numbers = np.concatenate([middles, -middles]), np.concatenate(counts)
    values, numbers = values[numbers > 0].astype(np.float32), numbers[numbers > 0]

    def error(bound: float) -> float:
        delta = np.float32(bound / grid.reach[0])
        rounded = grid.values[_slots(grid, values[:, None], delta)[:, 0]] * np.float64(delta)
        return float((numbers * (rounded - values) ** 2).sum())

    coarse = [bins * step // _COARSE for step in range(1, _COARSE + 1)]
    best = min(coarse, key=lambda edge: error(edge * top / bins))
    reach = bins // _COARSE
    fine = range(max(1, best - reach), min(bins, best + reach) + 1)
    return min((edge * top / bins for edge in fine), key=error)


def _slots(grid: ValueGrid, values: _Floats, delta: np.float32) -> npt.NDArray[np.intp]:
    divisor = delta if delta > 0 else np.float32(1)
    return grid.slots(np.divide(values, divisor, dtype=np.float32), 0)
