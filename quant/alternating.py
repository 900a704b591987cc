"""Binary coding, with scales and signs fitted in turns."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .groups import quantize_groups
from .sign_search import SignSearch

__all__ = ["alternating", "alternating_search"]

_ROUNDS = 15  # as the solver of LUT-GEMM's authors


def alternating(
    weights: npt.NDArray[np.float32], family: Family, group_size: int, scale_width: int
) -> QuantizedMatrix:
    """Quantise to binary codes by alternating least squares and nearest sums, 15 rounds.

    See :class:`SignSearch`.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        One binary-coding format.
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale.

    Source
    ------
    Xu et al., Alternating Multi-bit Quantization, ICLR 2018.
    """
    return quantize_groups(
        weights,
        alternating_search(family),
        members=family.members,
        group_size=group_size,
        scale_width=scale_width,
    )


def alternating_search(family: Family) -> SignSearch:
    """Return what :func:`alternating` does with a few groups; scales are not split yet."""
    return SignSearch(family.members[0], rounds=_ROUNDS)
