"""Codes out of the words and bytes of other tools."""

import numpy as np
import numpy.typing as npt

from ..packing import unpack_codes

__all__ = ["unpack_nibbles", "unpack_padded", "unpack_stream"]

_WORD_BITS = 32


def unpack_stream(words: npt.NDArray, bits: int, count: int) -> npt.NDArray[np.uint8]:
    """Unpack rows of words that are one stream of bits each, lowest first.

    Parameters
    ----------
    words : int32 or uint32 array, shape (R, W)
    bits : int
        Of one code, 1 to 8.
    count : int
        Codes of a row, at most ``32 * W // bits``.

    Returns
    -------
    uint8 array, shape (R, count)
    """
    stream = np.ascontiguousarray(words.astype("<u4", copy=False)).view(np.uint8)
    if bits == 8:
        return np.ascontiguousarray(stream[:, :count])
    if bits not in (1, 2, 4):
        return unpack_codes(stream[:, : -(-count * bits // 8)], count, bits)
    share = 8 // bits
    codes = np.empty((*stream.shape, share), dtype=np.uint8)
    for place in range(share):
        np.right_shift(stream, place * bits, out=codes[..., place])
    codes &= (1 << bits) - 1
    return np.ascontiguousarray(codes.reshape(len(words), -1)[:, :count])


def unpack_padded(words: npt.NDArray, bits: int, count: int) -> npt.NDArray[np.uint8]:
    """Unpack rows of words that hold ``32 // bits`` whole codes each, lowest first.

    Parameters
    ----------
    words : int32 or uint32 array, shape (R, W)
    bits : int
        Of one code, 1 to 8.
    count : int
        Codes of a row, at most ``32 // bits * W``.

    Returns
    -------
    uint8 array, shape (R, count)
    """
    share = _WORD_BITS // bits
    codes = np.empty((*words.shape, share), dtype=np.uint8)
    unsigned = words.view(np.uint32)
    for place in range(share):
        codes[..., place] = unsigned >> np.uint32(place * bits) & np.uint32((1 << bits) - 1)
    return np.ascontiguousarray(codes.reshape(len(words), -1)[:, :count])


def unpack_nibbles(octets: npt.NDArray[np.uint8], *, high_first: bool) -> npt.NDArray[np.uint8]:
    """Split bytes into two codes of four bits.

    Parameters
    ----------
    octets : uint8 array, shape (..., B)
    high_first : bool
        Whether the high half comes before the low one.

    Returns
    -------
    uint8 array, shape (..., 2 * B)
    """
    codes = np.empty((*octets.shape, 2), dtype=np.uint8)
    np.bitwise_and(octets, 15, out=codes[..., int(high_first)])
    np.right_shift(octets, 4, out=codes[..., int(not high_first)])
    return codes.reshape(*octets.shape[:-1], -1)
