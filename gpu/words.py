"""Codes in 32-bit words, as kernels read them: 32 columns of a row are as many words as bits.

A chunk is 32 columns. Kernels take it apart into four *nibble words* of eight nibbles, and each of
these into two *quads*: words whose bytes are four neighbouring columns, ready for ``dp4a``. Quad
``q`` of a chunk holds columns ``4 q`` to ``4 q + 3``.

A field is up to four code bits. One of 4 bits is stored as its nibble words; one of 2 bits as two
words, each of them two nibble words side by side, the second shifted by 2; one of 1 bit as a single
word with four, shifted by 0 to 3; one of 3 bits as its low two bits and then its top one. Codes of
more than 4 bits are two fields. So a code costs its bits and nothing else.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["CHUNK", "field_widths", "pack_words", "unpack_words"]

CHUNK = 32
"""Columns of a chunk."""

_NIBBLES = 8
# Column, within the eight of a nibble word, that each nibble holds. Where nibbles are the selectors
# of a byte permutation they are in order; else even ones make up the first quad, odd the second.
_ORDER = {True: (0, 1, 2, 3, 4, 5, 6, 7), False: (0, 4, 1, 5, 2, 6, 3, 7)}


def field_widths(code_width: int) -> tuple[int, ...]:
    """Return the bits of the fields of a code, lowest first."""
    return (code_width,) if code_width <= 4 else (4, code_width - 4)


def pack_words(
    codes: npt.NDArray[np.uint8], code_width: int, *, selectors: bool
) -> npt.NDArray[np.int32]:
    """Pack codes of some rows.

    Parameters
    ----------
    codes : uint8 array, shape (U, K)
        ``K`` is a multiple of :data:`CHUNK`.
    code_width : int
        Bits of a code, 1 to 8.
    selectors : bool
        Whether nibbles are in the order in which a byte permutation takes them.

    Returns
    -------
    int32 array, shape (K / 32, code_width, U)
        Words of a chunk, for all rows side by side.
    """
    nibbles = codes.reshape(len(codes), codes.shape[1] // CHUNK, 4, _NIBBLES)[
        ..., list(_ORDER[selectors])
    ]
    words = []
    shift = 0
    for width in field_widths(code_width):
        words += _pack_field(nibbles >> shift & ((1 << width) - 1), width)
        shift += width
    return np.stack(words).transpose(2, 0, 1).astype(np.uint32).view(np.int32).copy()


def _pack_field(nibbles: npt.NDArray[np.int64], width: int) -> list[npt.NDArray[np.int64]]:
    """Pack a field, (U, chunks, 4, 8), into its words, each (U, chunks)."""
    if width == 3:
        return _pack_field(nibbles & 3, 2) + _pack_field(nibbles >> 2, 1)
    places = 4 * np.arange(_NIBBLES, dtype=np.int64)
    nibble_words = (nibbles << places).sum(axis=-1)
    side_by_side = 4 // width
    shifts = width * np.arange(side_by_side, dtype=np.int64)
    grouped = nibble_words.reshape(*nibble_words.shape[:2], width, side_by_side)
    return list(np.moveaxis((grouped << shifts).sum(axis=-1), -1, 0))


def unpack_words(words: Tensor, code_width: int, *, selectors: bool) -> Tensor:
    """Undo :func:`pack_words`, on any device.

    Parameters
    ----------
    words : int32 tensor, shape (chunks, code_width, U)

    Returns
    -------
    uint8 tensor, shape (U, 32 * chunks)
    """
    codes = torch.zeros((), dtype=torch.int32, device=words.device)
    shift = word = 0
    for width in field_widths(code_width):
        codes = codes | _unpack_field(words[:, word : word + width], width) << shift
        word += width
        shift += width
    column = torch.tensor(_ORDER[selectors], device=words.device).argsort()
    return codes[..., column].permute(2, 0, 1, 3).reshape(words.shape[2], -1).to(torch.uint8)


def _unpack_field(words: Tensor, width: int) -> Tensor:
    """Return a field's nibbles, int32 of shape (chunks, 4, U, 8)."""
    if width == 3:
        return _unpack_field(words[:, :2], 2) | _unpack_field(words[:, 2:], 1) << 2
    shifts = width * torch.arange(4 // width, dtype=torch.int32, device=words.device)
    nibble_words = (words[:, :, None] >> shifts[:, None]).flatten(1, 2)
    places = 4 * torch.arange(_NIBBLES, dtype=torch.int32, device=words.device)
    return nibble_words[..., None] >> places & ((1 << width) - 1)
