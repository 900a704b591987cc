"""From a float matrix to a quantised one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy.typing as npt

from ..formats import QuantizedMatrix
from .finite import finite_bias, finite_weights
from .methods import method_for
from .recipe import Recipe

__all__ = ["quantize"]


def quantize(
    weights: npt.ArrayLike,
    *,
    format: str,
    group_size: int | str | None = 128,
    method: str | None = None,
    scale_width: int = 8,
    codebook: Sequence[int] | None = None,
    bias: npt.ArrayLike | None = None,
) -> QuantizedMatrix:
    """Quantise a weight matrix.

    Parameters
    ----------
    weights : float array, shape (N, K)
        Finite; taken as float32.
    format : str
        Name of a family of the catalogue, or of a codebook's slot.
    group_size : int, "row" or None
        Weights of one group along K, at least 1; the last group of a row may be shorter. "row",
        None and sizes beyond K take whole rows.
    method : str, optional
        Name of a quantiser; by default ``absmax`` for value formats, ``alternating`` for binary
        coding.
    scale_width : int
        Magnitude bits of a group scale, 1 to 16.
    codebook : sequence of int, optional
        Entries, for a codebook's slot: 8 or 16 integers in -128..127.
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
        unknown, the codebook or the method does not go with the format, or a number is out of
        range.
    """
    recipe = Recipe(
        format=format,
        group_size=group_size,
        method=method,
        scale_width=scale_width,
        codebook=codebook,
    )
    chosen = recipe.family
    matrix = finite_weights(weights)
    rows, columns = matrix.shape
    size = columns if recipe.group_size is None else min(int(recipe.group_size), columns)
    made = method_for(chosen, recipe.method).quantizer(matrix, chosen, size, recipe.scale_width)
    return made if bias is None else replace(made, bias=finite_bias(bias, rows))
