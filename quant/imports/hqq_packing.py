"""Codes as HQQ packs them: parts of the rows in the parts of a byte or a word, highest first."""

import numpy as np
import numpy.typing as npt

from ..file_error import FileError

__all__ = ["PACKINGS", "unpack_hqq"]

# Type of what is packed, how many codes it holds and the bits of each.
PACKINGS: dict[str, tuple[str, int, int]] = {
    "8bit_u8": ("U8", 1, 8),
    "4bit_u8": ("U8", 2, 4),
    "3bit_32": ("I32", 10, 3),
    "2bit_u8": ("U8", 4, 2),
    "1bit_u8": ("U8", 8, 1),
}
"""By HQQ's names. Source: hqq/core/bitpack.py."""


def unpack_hqq(packed: npt.NDArray, packing: str, rows: int) -> npt.NDArray[np.uint8]:
    """Unpack a matrix whose first rows are in the highest bits, and so on down.

    Parameters
    ----------
    packed : uint8 or int32 array, shape (R, C)
        ``R`` times the codes that one of them holds is ``rows``; or, in words, the next above.
    packing : str
        A name in ``PACKINGS``.
    rows : int

    Returns
    -------
    uint8 array, shape (rows, C)

    Raises
    ------
    FileError
        If the rows are more than there are, or do not fill what is packed.
    """
    _, share, bits = PACKINGS[packing]
    if -(-rows // share) != len(packed) or (bits != 3 and rows % share):
        raise FileError(
            f"{len(packed)} packed rows of {share} codes each cannot be {rows} rows of codes"
        )
    mask = (1 << bits) - 1
    parts = [packed >> bits * place & mask for place in reversed(range(share))]
    return np.concatenate(parts)[:rows].astype(np.uint8)
