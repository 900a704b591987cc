"""What may be chosen for a kernel without any effect on its result."""

from dataclasses import dataclass

__all__ = [
    "DECODE_CONFIGS",
    "PREFILL_CONFIGS",
    "DecodeConfig",
    "PrefillConfig",
    "default_decode",
    "default_prefill",
]


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """How :func:`decode_kernel` is cut up.

    Parameters
    ----------
    rows : int
        Rows of a program, a power of two.
    warps : int
        Warps of a program.
    split : int
        Programs along K for the same rows.
    """

    rows: int
    warps: int
    split: int


@dataclass(frozen=True, slots=True)
class PrefillConfig:
    """How :func:`prefill_kernel` is cut up.

    Parameters
    ----------
    rows, columns : int
        Rows, and tokens times digits, of a program; powers of two from 16.
    warps, stages : int
        Warps of a program; loads under way.
    split : int
        Programs along K for the same tile.
    """

    rows: int
    columns: int
    warps: int
    stages: int
    split: int


_DECODE_TILES = ((32, 2), (32, 4), (64, 1), (64, 2), (128, 1), (128, 2), (256, 2), (512, 4))

DECODE_CONFIGS = tuple(
    DecodeConfig(rows, warps, split)
    for rows, warps in _DECODE_TILES
    for split in (1, 2, 4, 8, 16, 32)
)
"""Candidates for tuning; a split beyond the segments of a row leaves programs without work."""

PREFILL_CONFIGS = tuple(
    PrefillConfig(rows, columns, warps, stages, split)
    for rows, columns, warps in ((64, 16, 4), (64, 32, 4), (64, 64, 4), (128, 64, 8), (128, 128, 8))
    for stages in (2, 3)
    for split in (1, 4)
)

# Programs for each multiprocessor, so that loads of one hide behind those of others.
_WAVES = 4
# Most sums, of a row and a column each, that a thread of the decode kernel has.
_THREAD_SUMS = 16


def default_decode(rows: int, segments: int, digit_columns: int, processors: int) -> DecodeConfig:
    """Return what is taken where nothing was tuned: enough programs for all processors.

    Parameters
    ----------
    rows, segments, digit_columns : int
        Rows and segments of the layer; tokens times digits.
    processors : int
        Multiprocessors of the device.
    """
    # Several rows a thread share the loads of activations, but more than these sums do not fit
    # its registers; 32 rows are a line of memory.
    columns = 1 << (digit_columns - 1).bit_length()
    block = max(32, min(256, 32 * _THREAD_SUMS * 2 // columns))
    warps = max(2, block * columns // (32 * _THREAD_SUMS))
    split = -(-_WAVES * processors // -(-rows // block))
    return DecodeConfig(block, warps, max(1, min(split, segments)))


def default_prefill(rows: int, segments: int, digit_columns: int, processors: int) -> PrefillConfig:
    """Return what is taken where nothing was tuned; arguments as for :func:`default_decode`."""
    columns = 16 if digit_columns <= 16 else 32 if digit_columns <= 32 else 64
    block, warps = (128, 8) if columns == 64 and rows >= 4096 else (64, 4)
    tiles = -(-rows // block) * -(-digit_columns // columns)
    return PrefillConfig(block, columns, warps, 3, max(1, min(processors // tiles, segments, 8)))
