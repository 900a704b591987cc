"""What the error of a weight counts, by the column it stands in."""

import numpy as np
import numpy.typing as npt

from .calibration import LayerCalibration

__all__ = ["column_factors"]

_LEAST = 1e-6  # of the mean


def column_factors(
    weighting: str, calibration: LayerCalibration | None
) -> npt.NDArray[np.float64] | None:
    """Return the factors that a quantiser's option ``weighting`` stands for.

    Parameters
    ----------
    weighting : str
        "none", or "activation" for the mean squares of the inputs, half of the diagonal of the
        Hessian of a layer's squared error; at least a millionth of their mean.
    calibration : LayerCalibration, optional
        Needed unless ``weighting`` is "none".

    Returns
    -------
    float64 array, shape (K,), or None

    Raises
    ------
    :exc:`ValueError`
        If calibration data are needed and missing.
    """
    if weighting == "none":
        return None
    if calibration is None:
        raise ValueError(f"Weighting {weighting!r} needs calibration data")
    x = calibration.inputs
    squares = np.einsum("mk,mk->k", x, x, dtype=np.float64) / len(x)
    # An input that calibration text leaves at 0 may be another in use.
    return np.maximum(squares, _LEAST * float(squares.mean()) or 1.0)
