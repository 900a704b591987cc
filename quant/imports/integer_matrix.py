"""A quantised matrix from unsigned integers with zero-points."""

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix, member
from .exact_matrix import exact_matrix

__all__ = ["integer_matrix"]


def integer_matrix(
    codes: npt.NDArray[np.uint8],
    *,
    bits: int,
    group_size: int,
    scales: npt.NDArray[np.floating],
    zeros: npt.NDArray[np.uint8] | None,
    column_order: npt.NDArray[np.int32] | None = None,
    bias: npt.NDArray[np.float32] | None = None,
) -> QuantizedMatrix:
    """Build a matrix of weights ``scales * (code - zero)``, exactly.

    Where every zero-point is in the middle, ``2**(bits - 1)``, the format is the symmetric one,
    which needs none.

    Parameters
    ----------
    codes : uint8 array, shape (N, K)
        Below ``2**bits``. Changed in place.
    bits : int
        2 to 8.
    group_size : int
    scales : float array, shape (N, G)
    zeros : uint8 array, shape (N, G), or None
        None for the middle.
    column_order : int32 array, shape (K,), optional
    bias : float32 array, shape (N,), optional

    Raises
    ------
    :exc:`ValueError`
        As :func:`exact_matrix`.
    """
    middle = np.uint8(1 << (bits - 1))
    symmetric = zeros is None or bool((zeros == middle).all())
    if symmetric:
        codes ^= middle  # to two's complement
    return exact_matrix(
        codes=codes,
        members=member(f"int{bits}" if symmetric else f"int{bits}_asym"),
        group_size=group_size,
        scales=scales,
        zeros=None if symmetric else zeros,
        column_order=column_order,
        bias=bias,
    )
