"""Binary coding, one plane after another."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .groups import quantize_groups
from .sign_search import SignSearch

__all__ = ["greedy", "greedy_search"]


def greedy(
    weights: npt.NDArray[np.float32], family: Family, group_size: int, scale_width: int
) -> QuantizedMatrix:
    """Quantise to binary codes: each plane takes the signs of what the planes before it left.

    The start of :func:`alternating`, without its rounds; see :class:`SignSearch`.

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
    """
    return quantize_groups(
        weights,
        greedy_search(family),
        members=family.members,
        group_size=group_size,
        scale_width=scale_width,
    )


def greedy_search(family: Family) -> SignSearch:
    """Return what :func:`greedy` does with a few groups; scales are not split yet."""
    return SignSearch(family.members[0], rounds=0)
