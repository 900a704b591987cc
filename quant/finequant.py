"""Groups no smaller than a layer needs."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .group_searches import find_search
from .groups import quantize_groups

__all__ = ["finequant", "group_sizes"]

_Floats = npt.NDArray[np.float32]


def finequant(
    weights: _Floats,
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    base: str = "auto",
    rule: str = "range",
    gain: float = 0.9,
    budget: float = 0.01,
) -> QuantizedMatrix:
    """Quantise with a group size that is chosen for the layer.

    Starting from whole rows, the size is halved down to ``group_size``, which is the least allowed.
    By the rule "range" it goes on as long as halving shrinks the mean range of a group, its largest
    magnitude, to less than ``gain`` of what it was. By the rule "error" it stops at the first size
    with which the squared error is at most ``budget`` of the weights' squares. Sizes are
    ``group_size`` times powers of two, and whole rows.

    A quantised matrix has one group size: rows of a layer cannot differ in it. The original names
    the idea but not the rule, which is an own one.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
    group_size : int
        Least size, 1 to K.
    scale_width : int
        Magnitude bits of a group scale.
    base : str
        Method that finds formats and scales; "auto" is the best for the family.
    rule : str
        "range" or "error".
    gain : float
        Share of the range, for the first rule.
    budget : float
        Share of the squares, for the second.

    Source
    ------
    Kim et al., FineQuant, 2308.09723, section 4: adaptive fine-grained quantisation.
    """
    sizes = group_sizes(weights.shape[1], group_size)

    def made(size: int) -> QuantizedMatrix:
        return quantize_groups(
            weights,
            find_search(family, base),
            members=family.members,
            group_size=size,
            scale_width=scale_width,
        )

    if rule == "range":
        return made(_by_range(weights, sizes, gain))
    allowed = budget * float(np.square(weights, dtype=np.float64).sum())
    found = made(sizes[0])
    for size in sizes[1:]:
        if float(np.square(found.dequantize() - weights).sum()) <= allowed:
            break
        found = made(size)
    return found


def group_sizes(columns: int, least: int) -> list[int]:
    """List whole rows, and below them the least size times powers of two, descending."""
    sizes = [columns]
    size = least
    below = []
    while size < columns:
        below.append(size)
        size *= 2
    return sizes + below[::-1]


def _by_range(weights: _Floats, sizes: list[int], gain: float) -> int:
    chosen = sizes[0]
    before = _mean_range(weights, chosen)
    for size in sizes[1:]:
        now = _mean_range(weights, size)
        if now >= gain * before:
            break
        chosen, before = size, now
    return chosen


def _mean_range(weights: _Floats, size: int) -> float:
    starts = np.arange(0, weights.shape[1], size)
    return float(np.maximum.reduceat(np.abs(weights), starts, axis=1).mean(dtype=np.float64))
