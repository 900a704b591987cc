"""Codes spread evenly from the least to the greatest weight of a group."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .groups import GroupSearch, QuantizedGroups, quantize_groups

__all__ = ["minmax", "minmax_search"]

_Floats = npt.NDArray[np.float32]


def minmax(weights: _Floats, family: Family, group_size: int, scale_width: int) -> QuantizedMatrix:
    """Quantise to an affine format: code 0 is the least weight of a group, the last the greatest.

    ``scale = (max(w) - min(w)) / (2**b - 1)``, rounded to float32, and ``offset = min(w)``; codes
    are ``(w - min(w)) / scale``, rounded half to even. The offset is some ``2**b`` times the scale,
    and both are rounded to integers in steps of the row's largest: with 8 bits little is left of
    the scale, 16 do it justice.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        One affine format.
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale.

    Source
    ------
    Badri and Shaji, HQQ, 2023, its starting point; as ggml's Q4_1.
    """
    return quantize_groups(
        weights,
        minmax_search(family),
        members=family.members,
        group_size=group_size,
        scale_width=scale_width,
    )


def minmax_search(family: Family) -> GroupSearch:
    """Return what :func:`minmax` does with a few groups; scales are not split yet."""
    top = np.float32((1 << family.code_width) - 1)

    def search(weights: _Floats, factors: object = None, /) -> QuantizedGroups:
        low, high = weights.min(axis=0), weights.max(axis=0)
        # In float64, where the extent of opposite extremes is finite, too.
        extent = high.astype(np.float64) - low
        scale = (extent / top).astype(np.float32)
        steps = (weights - low.astype(np.float64)) / np.where(scale > 0, scale, 1)
        count = weights.shape[1]
        return QuantizedGroups(
            codes=np.clip(np.rint(steps), 0, top).astype(np.uint8),
            format_ids=np.zeros(count, np.uint8),
            scales=np.stack([scale, low]),
            zeros=np.zeros(count, np.uint8),
        )

    return search
