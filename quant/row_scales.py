"""Two-level scales: an integer for each group, a float32 for each row."""

import numpy as np
import numpy.typing as npt

__all__ = ["row_scales"]


def row_scales(
    scales: npt.NDArray[np.float32],
    scale_width: int,
    peaks: npt.NDArray[np.float32] | None = None,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Split group scales into signed integers and one scale for each row.

    ``S = max|scale| / (2**scale_width - 1)`` in float32, and the integers are ``scale / S`` rounded
    half to even. A row with a single scale keeps it exactly: the integer is 1. A row of zeros has
    only zeros.

    Parameters
    ----------
    scales : float32 array, shape (N, G, C)
        Finite.
    scale_width : int
        Magnitude bits of an integer.
    peaks : float32 array, shape (N,), optional
        What stands for ``max|scale|``, and is no less; by default that itself.

    Returns
    -------
    integers : int32 array, shape (N, G, C)
    row_scales : float32 array, shape (N,)

    Source
    ------
    Chen et al., BitMoD, HPCA 2025, section III-C, after VS-Quant.
    """
    limit = (1 << scale_width) - 1
    if scales[0].size == 1:
        return (scales != 0).astype(np.int32), scales.reshape(-1)
    largest = np.abs(scales).max(axis=(1, 2)) if peaks is None else peaks
    steps = largest / np.float32(limit)
    divisors = np.where(steps > 0, steps, 1).astype(np.float64)[:, None, None]
    integers = np.rint(scales / divisors)
    integers[steps == 0] = 0
    # A subnormal step is coarse enough for the largest scale to round beyond the limit.
    return np.clip(integers, -limit, limit).astype(np.int32), steps
