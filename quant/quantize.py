"""From a float matrix to a quantised one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy.typing as npt

from ..formats import QuantizedMatrix
from .calibration import LayerCalibration
from .checked_calibration import checked_calibration
from .finite import finite_bias, finite_weights
from .methods import method_for
from .option import OptionValue
from .recipe import Recipe

__all__ = ["quantize", "quantize_by"]


def quantize(
    weights: npt.ArrayLike,
    *,
    format: str,
    group_size: int | str | None = "auto",
    method: str | None = None,
    scale_width: int = 8,
    codebook: Sequence[int] | None = None,
    bias: npt.ArrayLike | None = None,
    calibration: LayerCalibration | npt.ArrayLike | None = None,
    options: Mapping[str, OptionValue] | None = None,
) -> QuantizedMatrix:
    """Quantise a weight matrix.

    Parameters
    ----------
    weights : float array, shape (N, K)
        Finite; taken as float32.
    format : str
        Name of a family of the catalogue, of a codebook's slot, or of a block format.
    group_size : int, "row", "auto" or None
        Weights of one group along K, at least 1; the last group of a row may be shorter. "row",
        None and sizes beyond K take whole rows. "auto" is what a block format has, or 128.
    method : str, optional
        Name of a quantiser; by default ``absmax`` for value formats, ``alternating`` for binary
        coding.
    scale_width : int
        Magnitude bits of a group scale, 1 to 31.
    codebook : sequence of int, optional
        Entries, for a codebook's slot: 8 or 16 integers in -128..127.
    bias : float array, shape (N,), optional
        Finite; kept as float32 beside the weights.
    calibration : LayerCalibration or float array, shape (M, K), optional
        What calibration text puts into the layer, for methods that use it.
    options : mapping, optional
        Options of the method, by name.

    Returns
    -------
    QuantizedMatrix
        The same for the same arguments, on any number of cores.

    Raises
    ------
    :exc:`ValueError`
        If the weights or the bias have another shape or are not finite real numbers, a name is
        unknown, the codebook or the method does not go with the format, calibration data are
        missing, unasked for or do not fit, or a number is out of range.
    """
    recipe = Recipe(
        format=format,
        group_size=group_size,
        method=method,
        scale_width=scale_width,
        codebook=codebook,
        options=options,
    )
    return quantize_by(recipe, weights, bias=bias, calibration=calibration)


def quantize_by(
    recipe: Recipe,
    weights: npt.ArrayLike,
    *,
    bias: npt.ArrayLike | None = None,
    calibration: LayerCalibration | npt.ArrayLike | None = None,
) -> QuantizedMatrix:
    """Quantise a weight matrix by a recipe; otherwise as :func:`quantize`."""
    matrix = finite_weights(weights)
    rows, columns = matrix.shape
    size = columns if recipe.group_size is None else min(int(recipe.group_size), columns)
    known = None if calibration is None else checked_calibration(calibration, rows, columns)
    method = method_for(recipe.family, recipe.method)
    made = method.run(matrix, recipe.family, size, recipe.scale_width, recipe.options or {}, known)
    return made if bias is None else replace(made, bias=finite_bias(bias, rows))
