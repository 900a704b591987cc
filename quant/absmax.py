"""Round to nearest, with scales that just reach the largest weight."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .groups import quantize_groups
from .value_search import ValueSearch

__all__ = ["absmax", "absmax_search"]


def absmax(
    weights: npt.NDArray[np.float32], family: Family, group_size: int, scale_width: int
) -> QuantizedMatrix:
    """Quantise with the scale that maps each group's largest weight to the largest value.

    Where the family has several members, the one with the least error is taken for each group.
    Formats with a zero-point span the least to the greatest weight, 0 included. The details, ties
    among them, are those of :class:`ValueSearch`.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        Value formats.
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale.

    Source
    ------
    Chen et al., BitMoD, HPCA 2025, algorithm 1.
    """
    return quantize_groups(
        weights,
        absmax_search(family),
        members=family.members,
        group_size=group_size,
        scale_width=scale_width,
    )


def absmax_search(family: Family) -> ValueSearch:
    """Return what :func:`absmax` does with a few groups; scales are not split yet."""
    return ValueSearch(family.members)
