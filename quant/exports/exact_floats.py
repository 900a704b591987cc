"""Scales as floats: exactly, in the narrowest type that holds them, or rounded to a type."""

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix

__all__ = ["SCALE_TYPES", "float_scales", "narrowest", "rounded_scales"]

SCALE_TYPES: dict[str, type] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
}
"""Types that scales can be rounded to, by name."""

_LARGEST_CHANGE = 0.1


def narrowest(values: npt.NDArray[np.float32]) -> npt.NDArray:
    """Return floats as float16, else bfloat16, else as they are, whichever first holds all."""
    for dtype in (np.float16, ml_dtypes.bfloat16):
        with np.errstate(over="ignore"):
            narrow = values.astype(dtype)
        if np.array_equal(narrow.astype(np.float32), values):
            return narrow
    return values


def float_scales(matrix: QuantizedMatrix) -> npt.NDArray:
    """Return the scales of a matrix of one scale a group, as :func:`narrowest`, shape (N, G).

    Raises
    ------
    :exc:`ValueError`
        If float32 does not hold one of them exactly.
    """
    fractions, exponents = np.frexp(matrix.row_scales.astype(np.float64))
    significands = np.ldexp(fractions, 24).astype(np.int64)  # exact: float32 has 24 bits
    products = matrix.scales[..., 0] * significands[:, None]  # below 2^55
    steps = (exponents - 24)[:, None]
    with np.errstate(over="ignore", under="ignore"):
        scales = np.ldexp(products.astype(np.float64), steps).astype(np.float32)
        wrong = np.ldexp(scales.astype(np.float64), -steps) != products
    # A float64 that is equal to an integer by rounding has more than 24 bits, and so is wrong too.
    wrong |= ~np.isfinite(scales) | (products.astype(np.float64).astype(np.int64) != products)
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=1)))
        raise ValueError(
            f"The scales of row {row} are products of an integer and the row's scale that float32 "
            "does not hold; layers with whole rows as groups, and imported ones, have scales that "
            "it does; others can be rounded, --scales float16"
        )
    return narrowest(scales)


def rounded_scales(matrix: QuantizedMatrix, scale_type: str) -> tuple[npt.NDArray, float]:
    """Return the scales of a matrix of one scale a group, rounded half to even.

    Parameters
    ----------
    matrix : QuantizedMatrix
    scale_type : str
        Key of :data:`SCALE_TYPES`.

    Returns
    -------
    scales : array of that type, shape (N, G)
    change : float
        By how much of itself a scale has changed at most.

    Raises
    ------
    :exc:`ValueError`
        If a scale is beyond the type's range, or so small that rounding changes it by over a tenth.
    """
    wanted = matrix.scales[..., 0] * matrix.row_scales.astype(np.float64)[:, None]
    with np.errstate(over="ignore"):
        scales = wanted.astype(SCALE_TYPES[scale_type])
    differences = np.abs(scales.astype(np.float64) - wanted)
    change = np.divide(differences, np.abs(wanted), where=wanted != 0, out=np.zeros_like(wanted))
    if not (change <= _LARGEST_CHANGE).all():  # NaN where infinity is taken off
        row = int(np.argmax(~(change <= _LARGEST_CHANGE).all(axis=1)))
        raise ValueError(
            f"The scales of row {row} are beyond what {scale_type} holds; use float32 or bfloat16"
        )
    return scales, float(change.max(initial=0))
