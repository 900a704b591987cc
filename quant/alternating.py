"""Binary coding, with scales and signs fitted in turns."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .calibration import LayerCalibration
from .column_factors import column_factors
from .groups import quantize_groups
from .sign_search import SignSearch

__all__ = ["alternating", "alternating_search"]

_ROUNDS = 15  # as the solver of LUT-GEMM's authors


def alternating(
    weights: npt.NDArray[np.float32],
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    rounds: int = _ROUNDS,
    weighting: str = "none",
    calibration: LayerCalibration | None = None,
) -> QuantizedMatrix:
    """Quantise to binary codes by alternating least squares and nearest sums.

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
    rounds : int
        Turns; 0 for the greedy start alone.
    weighting : str
        "activation" multiplies squared errors by the mean squares of the inputs.
    calibration : LayerCalibration, optional
        Needed for that.

    Source
    ------
    Xu et al., Alternating Multi-bit Quantization, ICLR 2018.
    """
    return quantize_groups(
        weights,
        SignSearch(family.members[0], rounds=rounds),
        members=family.members,
        group_size=group_size,
        scale_width=scale_width,
        column_factors=column_factors(weighting, calibration),
    )


def alternating_search(family: Family) -> SignSearch:
    """Return what :func:`alternating` does with a few groups, 15 rounds; scales not split yet."""
    return SignSearch(family.members[0], rounds=_ROUNDS)
