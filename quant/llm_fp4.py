"""Small floats with the split of bits and the range that serve the layer's output best."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix, ValueFormat
from .calibration import LayerCalibration
from .float_scaled import FloatScaledMatrix
from .value_grid import ValueGrid

__all__ = ["has_no_zero_point", "llm_fp4"]

_Floats = npt.NDArray[np.float32]
_RATIOS = np.linspace(0.01, 1.2, 100, dtype=np.float32)
_BLOCK_WEIGHTS = 1 << 19


def has_no_zero_point(family: Family) -> bool:
    """Whether all members are value formats without a zero-point."""
    return all(isinstance(item, ValueFormat) for item in family.members) and not any(
        item.has_zero_point for item in family.members
    )


def llm_fp4(
    weights: _Floats,
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    weighting: str = "none",
    tokens: int = 256,
    calibration: LayerCalibration | None = None,
) -> QuantizedMatrix:
    """Quantise with the format and the bounds of least output error.

    For each member of the family and each group, the largest magnitude times 0.01 to 1.2, in 100
    steps, is tried as the bound. The error is that which the group alone makes of the output; a
    group that is a row is LLM-FP4's channel. Then the one member with the least sum of errors is
    taken for the whole layer. ``float4`` and its like are the families of all splits of their bits.

    In LLM-FP4 a real exponent bias takes the place of the scale, and the search is over multiples
    of the bias; multiples of the bound do not depend on the unit of the weights.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        Value formats without a zero-point.
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale.
    weighting : str
        "output" for the error of outputs on calibration data, "none" for that of the weights.
    tokens : int
        Most tokens of the calibration data to look at, spread evenly.
    calibration : LayerCalibration, optional
        Needed for the weighting.

    Source
    ------
    Liu et al., LLM-FP4, EMNLP 2023, section 3.2, the weights' part of its search.
    """
    roots = _roots(weights.shape[1], group_size, weighting, tokens, calibration)
    importance = np.ones(1) if calibration is None else calibration.importance
    best, least = None, np.inf
    for item in family.members:
        found, errors = _search(weights, item, group_size, roots)
        total = float((errors.sum(axis=1) * importance).sum())
        if best is None or total < least:
            best, least = found, total
    assert best is not None
    return best.split(scale_width)


def _roots(columns: int, group_size: int, weighting: str, tokens: int, calibration) -> list:
    """Return for each group the factor of its Hessian, shape (length, any), or None."""
    starts = range(0, columns, group_size)
    if weighting == "none":
        return [None] * len(starts)
    inputs = calibration.inputs
    count = min(tokens, len(inputs))
    chosen = inputs[np.arange(count) * len(inputs) // count]
    roots = []
    for start in starts:
        x = chosen[:, start : start + group_size].astype(np.float64) / np.sqrt(count)
        if x.shape[1] < count:  # the triangular factor is as good, and smaller
            x = np.asarray(np.linalg.qr(x, mode="r"))
        roots.append(x.T.astype(np.float32))
    return roots


def _search(weights: _Floats, item, group_size: int, roots: list):
    """Return codes and scales for one format, and the error of every group, (N, G)."""
    grid = ValueGrid([item])
    rows = len(weights)
    shape = (rows, len(roots))
    codes = np.empty(weights.shape, np.uint8)
    scales = np.empty((*shape, 1), np.float32)
    errors = np.empty(shape)
    height = max(1, _BLOCK_WEIGHTS // group_size)
    for group, root in enumerate(roots):
        some = slice(group * group_size, (group + 1) * group_size)
        for top in range(0, rows, height):
            block = slice(top, top + height)
            w = weights[block, some]
            scale, error = _best_scale(w, grid, root)
            scales[block, group, 0], errors[block, group] = scale, error
            codes[block, some] = grid.codes[grid.slots(_in_steps(w, scale), 0)]
    zeros = np.zeros(shape, np.uint8)
    found = FloatScaledMatrix(
        members=(item,),
        group_size=group_size,
        codes=codes,
        format_ids=zeros,
        scales=scales,
        zeros=zeros.copy(),
    )
    return found, errors


def _best_scale(w: _Floats, grid: ValueGrid, root) -> tuple[_Floats, npt.NDArray[np.float64]]:
    """Try every bound; return the best scale and its error for each row."""
    full = (np.abs(w).max(axis=1) / grid.reach[0]).astype(np.float32)
    best, least = full, np.full(len(w), np.inf)
    for ratio in (np.float32(1), *_RATIOS):
        scale = full * ratio
        error = grid.values[grid.slots(_in_steps(w, scale), 0)].astype(np.float32)
        error *= scale[:, None]
        error -= w
        moved = error if root is None else error @ root
        squares = np.einsum("nk,nk->n", moved, moved, dtype=np.float64)
        better = squares < least
        best, least = np.where(better, scale, best), np.minimum(squares, least)
    return best, least


def _in_steps(w: _Floats, scale: _Floats) -> _Floats:
    divisors = np.where(scale > 0, scale, np.float32(1))[:, None]
    return np.divide(w, divisors, dtype=np.float32)
