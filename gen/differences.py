"""Outputs of two back ends against each other, bit by bit."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["count_mismatches", "differing", "output_bits"]


def differing(got: Any, wanted: Any) -> npt.NDArray[np.bool_]:
    """Return which outputs differ in any bit; NaNs with other bits do.

    Parameters
    ----------
    got, wanted : array of an output type, shape (M, N)
        For ``int`` output pairs of sums, shape (M, N), and exponents, shape (M,); another exponent
        makes all outputs of its token differ.

    Returns
    -------
    bool array, shape (M, N)
    """
    if isinstance(wanted, tuple):
        return (got[0] != wanted[0]) | (got[1] != wanted[1])[:, None]
    size = wanted.dtype.itemsize
    bits = [np.ascontiguousarray(part).view(np.uint8) for part in (got, wanted)]
    return (bits[0] != bits[1]).reshape(*wanted.shape, size).any(axis=2)


def count_mismatches(got: Any, wanted: Any) -> int:
    """Count the outputs that differ in any bit; see :func:`differing`."""
    return int(differing(got, wanted).sum())


def output_bits(outputs: Any, token: int, row: int) -> str:
    """Return one output in hexadecimal.

    Returns
    -------
    str
        The bits of a floating-point number, such as ``0x7fc00000``; of an ``int`` output the sum
        and its exponent, such as ``-0x1f2p-14``.
    """
    if isinstance(outputs, tuple):
        return f"{int(outputs[0][token, row]):#x}p{int(outputs[1][token]):+d}"
    value = outputs[token, row : row + 1]
    size = value.dtype.itemsize
    return f"0x{int(value.view(f'u{size}')[0]):0{2 * size}x}"
