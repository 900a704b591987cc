"""Codes at their true width, as rows of the model file hold them."""

import numpy as np
import numpy.typing as npt

__all__ = ["pack_codes", "packed_bytes", "unpack_codes"]

_ROWS_AT_ONCE = 64  # the bits of these rows are spread out to a byte each


def packed_bytes(columns: int, code_width: int) -> int:
    """Return the bytes of one packed row."""
    return -(-columns * code_width // 8)


def pack_codes(codes: npt.NDArray[np.uint8], code_width: int) -> npt.NDArray[np.uint8]:
    """Pack codes without gaps along each row, lowest bits first.

    Bit ``j`` of the code in column ``k`` is bit ``i % 8`` of byte ``i // 8`` of its row, with
    ``i = k * code_width + j``. Bits beyond the last code are 0.

    Parameters
    ----------
    codes : uint8 array, shape (N, K)
        Below ``2**code_width``.
    code_width : int
        1 to 8.

    Returns
    -------
    uint8 array, shape (N, ceil(K * code_width / 8))
    """
    rows, columns = codes.shape
    packed = np.empty((rows, packed_bytes(columns, code_width)), dtype=np.uint8)
    for start in range(0, rows, _ROWS_AT_ONCE):
        some = codes[start : start + _ROWS_AT_ONCE, :, None]
        bits = np.unpackbits(some, axis=2, count=code_width, bitorder="little")
        packed[start : start + len(some)] = np.packbits(
            bits.reshape(len(some), -1), axis=1, bitorder="little"
        )
    return packed


def unpack_codes(
    packed: npt.NDArray[np.uint8], columns: int, code_width: int
) -> npt.NDArray[np.uint8]:
    """Undo :func:`pack_codes`.

    Parameters
    ----------
    packed : uint8 array, shape (N, ceil(columns * code_width / 8))
    columns : int
        K.
    code_width : int
        1 to 8.

    Returns
    -------
    uint8 array, shape (N, K)
    """
    codes = np.empty((len(packed), columns), dtype=np.uint8)
    for start in range(0, len(packed), _ROWS_AT_ONCE):
        some = packed[start : start + _ROWS_AT_ONCE]
        bits = np.unpackbits(some, axis=1, count=columns * code_width, bitorder="little")
        bits = bits.reshape(len(some), columns, code_width)
        codes[start : start + len(some)] = np.packbits(bits, axis=2, bitorder="little")[:, :, 0]
    return codes
