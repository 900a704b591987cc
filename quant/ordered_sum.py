"""Sums whose order of addition is part of the definition."""

import numpy as np
import numpy.typing as npt

__all__ = ["ordered_sum"]


def ordered_sum(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Add the rows of a matrix, first to last.

    NumPy's own sums take an order that depends on the shape; here ties between equal errors must
    fall the same way whatever block a group is computed in.

    Parameters
    ----------
    values : float64 array, shape (length, count)

    Returns
    -------
    float64 array, shape (count,)
    """
    total = np.zeros(values.shape[1])
    for row in values:
        total += row
    return total
