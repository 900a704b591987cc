"""From a float matrix to a quantised one."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..formats import QuantizedMatrix, family
from .methods import method_for
from .recipe import Recipe

__all__ = ["quantize"]

_ROWS_AT_ONCE = 256  # of a check, so that it needs little memory


def quantize(
    weights: npt.ArrayLike,
    *,
    format: str,
    group_size: int | str | None = 128,
    method: str | None = None,
    scale_width: int = 8,
    bias: npt.ArrayLike | None = None,
) -> QuantizedMatrix:
    """Quantise a weight matrix.

    Parameters
    ----------
    weights : float array, shape (N, K)
        Finite; taken as float32.
    format : str
        Name of a family of the catalogue.
    group_size : int, "row" or None
        Weights of one group along K, at least 1; the last group of a row may be shorter. "row",
        None and sizes beyond K take whole rows.
    method : str, optional
        Name of a quantiser; by default ``absmax`` for value formats, ``alternating`` for binary
        coding.
    scale_width : int
        Magnitude bits of a group scale, 1 to 16.
    bias : float array, shape (N,), optional
        Finite; kept as float32 beside the weights.

    Returns
    -------
    QuantizedMatrix
        Does not depend on the number of cores.

    Raises
    ------
    :exc:`ValueError`
        If the weights or the bias have another shape or are not finite real numbers, a name is
        unknown, the method does not serve the format, or a number is out of range.
    """
    recipe = Recipe(format=format, group_size=group_size, method=method, scale_width=scale_width)
    chosen = family(recipe.format)
    matrix = _finite(weights, "Weights", ndim=2)
    rows, columns = matrix.shape
    if not matrix.size:
        raise ValueError(f"Weights must have rows and columns, not shape {matrix.shape}")
    size = columns if recipe.group_size is None else min(int(recipe.group_size), columns)
    made = method_for(chosen, recipe.method).quantizer(matrix, chosen, size, recipe.scale_width)
    if bias is None:
        return made
    offsets = _finite(bias, "Bias", ndim=1)
    if offsets.shape != (rows,):
        raise ValueError(f"Bias must have one number a row, {rows}, not {offsets.size}")
    return replace(made, bias=offsets)


def _finite(values: npt.ArrayLike, thing: str, *, ndim: int) -> npt.NDArray[np.float32]:
    """Return an array as float32, checked."""
    array = np.asarray(values)
    if array.ndim != ndim:
        wanted = {1: "one-dimensional", 2: "two-dimensional, (N, K)"}[ndim]
        raise ValueError(f"{thing} must be {wanted}, not of shape {array.shape}")
    if array.dtype.kind in "cOSUMm":
        raise ValueError(f"{thing} must be real numbers, not {array.dtype}")
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite and is reported
        floats = array.astype(np.float32, copy=False)
    for start in range(0, len(floats), _ROWS_AT_ONCE):
        finite = np.isfinite(floats[start : start + _ROWS_AT_ONCE])
        if not finite.all():
            position = np.unravel_index(int(np.argmin(finite)), finite.shape)
            first = tuple(int(index) for index in (position[0] + start, *position[1:]))
            kind = "NaN" if np.isnan(floats[first]) else "infinite"
            where = f"[{', '.join(map(str, first))}]"
            raise ValueError(f"{thing} must be finite numbers; the one at {where} is {kind}")
    return floats
