"""Ternary codes, five to a byte."""

import numpy as np
import numpy.typing as npt

__all__ = ["DIGIT_CODES", "pack_trits", "trit_bytes", "unpack_trits"]

DIGIT_CODES = (0, 1, 3)
"""Code of each digit; the fourth code of two bits does not occur."""

_PER_BYTE = 5  # 3^5 = 243 combinations
_WEIGHTS = 3 ** np.arange(_PER_BYTE)


def trit_bytes(columns: int) -> int:
    """Return the bytes of one packed row."""
    return -(-columns // _PER_BYTE)


def pack_trits(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pack codes of three kinds at 1.6 bits each.

    Byte ``i`` of a row is ``sum_j digit[5 * i + j] * 3**j``; digits beyond the last code are 0.

    Parameters
    ----------
    codes : uint8 array, shape (N, K)
        Each one of :data:`DIGIT_CODES`.

    Returns
    -------
    uint8 array, shape (N, ceil(K / 5))
    """
    rows, columns = codes.shape
    digits = np.zeros((rows, trit_bytes(columns) * _PER_BYTE), dtype=np.uint8)
    digits[:, :columns] = np.searchsorted(DIGIT_CODES, codes)
    return (digits.reshape(rows, -1, _PER_BYTE) @ _WEIGHTS).astype(np.uint8)


def unpack_trits(packed: npt.NDArray[np.uint8], columns: int) -> npt.NDArray[np.uint8]:
    """Undo :func:`pack_trits`.

    Parameters
    ----------
    packed : uint8 array, shape (N, ceil(columns / 5))
    columns : int
        K.

    Returns
    -------
    uint8 array, shape (N, columns)

    Raises
    ------
    :exc:`ValueError`
        If a byte is not one of the 243 that five digits make.
    """
    if packed.max(initial=0) >= 3**_PER_BYTE:
        raise ValueError(f"Bytes of five ternary digits are below {3**_PER_BYTE}")
    digits = packed[:, :, None] // _WEIGHTS.astype(np.uint8) % 3
    codes = np.array(DIGIT_CODES, dtype=np.uint8)[digits]
    return codes.reshape(len(packed), -1)[:, :columns]
