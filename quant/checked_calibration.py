"""Calibration data of one layer, as callers may give them."""

import numpy as np
import numpy.typing as npt

from .calibration import LayerCalibration
from .finite import finite_floats

__all__ = ["checked_calibration"]


def checked_calibration(
    given: LayerCalibration | npt.ArrayLike, rows: int, columns: int
) -> LayerCalibration:
    """Return calibration data for a layer of shape (N, K); an array is taken for its inputs.

    Raises
    ------
    :exc:`ValueError`
        If they have another shape or are not finite real numbers, or an importance is negative.
    """
    importance = np.ones(1)
    if isinstance(given, LayerCalibration):
        given, importance = given.inputs, np.asarray(given.importance, dtype=np.float64)
    x = finite_floats(given, "Inputs", ndim=2)
    if not len(x) or x.shape[1] != columns:
        raise ValueError(
            f"Inputs must have one number a column, (M, {columns}), not shape {x.shape}"
        )
    if importance.shape not in ((rows,), (1,)) or not (importance >= 0).all():
        raise ValueError(
            f"Importance must be {rows} or 1 numbers that are not negative, not of shape "
            f"{importance.shape}"
        )
    return LayerCalibration(inputs=x, importance=importance)
