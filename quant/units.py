"""What shares one format: a group, a row, a column of groups, or a layer."""

import numpy as np
import numpy.typing as npt

__all__ = ["UNITS", "spread_over_groups", "sum_by_unit"]

# The axes of (N, G) that a unit takes whole.
UNITS: dict[str, tuple[int, ...]] = {"group": (), "row": (1,), "columns": (0,), "layer": (0, 1)}


def sum_by_unit(values: npt.NDArray, unit: str) -> npt.NDArray:
    """Add up what belongs to each unit.

    Parameters
    ----------
    values : array, shape (N, G)
    unit : str
        A key of :data:`UNITS`.

    Returns
    -------
    array, shape (U,)
        Units in the order of their first groups, row by row.
    """
    return values.sum(axis=UNITS[unit]).reshape(-1)


def spread_over_groups(
    choices: npt.NDArray[np.int64], unit: str, shape: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Undo the shape of :func:`sum_by_unit`: give every group its unit's choice.

    Returns
    -------
    int64 array, shape (N, G)
        Not to be written to.
    """
    kept = [1 if axis in UNITS[unit] else size for axis, size in enumerate(shape)]
    return np.broadcast_to(choices.reshape(kept), shape)
