"""Floats in the narrowest type that holds them."""

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix

__all__ = ["float_scales", "narrowest"]


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
            "it does"
        )
    return narrowest(scales)
