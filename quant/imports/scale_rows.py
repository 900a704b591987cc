"""A quantised matrix times one number."""

from dataclasses import replace

import numpy as np

from ...formats import QuantizedMatrix

__all__ = ["scale_rows"]


def scale_rows(matrix: QuantizedMatrix, factor: np.float32) -> QuantizedMatrix:
    """Multiply the row scales of a matrix, in float32.

    Parameters
    ----------
    matrix : QuantizedMatrix
        Row scales are powers of two or 0, so that products have all bits of the factor.
    factor : float32
        Finite.

    Raises
    ------
    :exc:`ValueError`
        If a row scale becomes infinite, or so small that float32 has fewer bits for it; the
        sentence names the row.
    """
    with np.errstate(over="ignore", under="ignore"):
        scales = matrix.row_scales * factor
        exact = matrix.row_scales.astype(np.float64) * np.float64(factor)
    wrong = scales != exact
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"The scale of row {row} is {float(exact[row]):.3g}, which float32 does not hold, so "
            "the layer cannot be taken over without rounding"
        )
    return replace(matrix, row_scales=scales)
