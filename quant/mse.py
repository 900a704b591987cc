"""Round to nearest, with scales that clip where that lowers the error."""

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .calibration import LayerCalibration
from .column_factors import column_factors
from .groups import quantize_groups
from .value_search import ValueSearch

__all__ = ["mse", "mse_search"]

# From no clipping down to a fifth: with two or three levels the best scale is that small.
_RATIOS = tuple(step / 50 for step in range(50, 9, -1))


def mse(
    weights: npt.NDArray[np.float32],
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    weighting: str = "none",
    calibration: LayerCalibration | None = None,
) -> QuantizedMatrix:
    """Quantise with the scale of least mean squared error among clipped ones.

    The scale of :func:`absmax` is multiplied by 1, 0.98, … 0.2 and each is tried, for each member
    of the family. The details, ties among them, are those of :class:`ValueSearch`.

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
    weighting : str
        "activation" multiplies squared errors by the mean squares of the inputs.
    calibration : LayerCalibration, optional
        Needed for that.
    """
    return quantize_groups(
        weights,
        mse_search(family),
        members=family.members,
        group_size=group_size,
        scale_width=scale_width,
        column_factors=column_factors(weighting, calibration),
    )


def mse_search(family: Family) -> ValueSearch:
    """Return what :func:`mse` does with a few groups; scales are not split yet."""
    return ValueSearch(family.members, _RATIOS)
