"""The codes nearest to weights, for scales as they are stored."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..formats import QuantizedMatrix
from .row_tables import RowTables

__all__ = ["group_tables", "nearest_codes"]


def nearest_codes(weights: npt.NDArray[np.float32], matrix: QuantizedMatrix) -> QuantizedMatrix:
    """Return a matrix with the same formats and scales, and the codes nearest to weights.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        In the order of the codes' columns.
    matrix : QuantizedMatrix
        Its codes do not matter.
    """
    codes = np.empty(weights.shape, dtype=np.uint8)
    for group in range(matrix.format_ids.shape[1]):
        tables = group_tables(matrix, group)
        end = min((group + 1) * matrix.group_size, weights.shape[1])
        for column in range(group * matrix.group_size, end):
            codes[:, column], _ = tables.nearest(weights[:, column])
    return replace(matrix, codes=codes)


def group_tables(matrix: QuantizedMatrix, group: int) -> RowTables:
    """Return the weights that one group of each row can have."""
    return RowTables(
        matrix.members,
        matrix.format_ids[:, group],
        matrix.scales[:, group],
        matrix.zeros[:, group],
        matrix.row_scales,
    )
