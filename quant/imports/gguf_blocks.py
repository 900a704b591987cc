"""Blocks of GGUF's quantised types, taken apart into codes and scales of known formats."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_TYPES", "BlockType"]

_Bytes = npt.NDArray[np.uint8]
_Decoded = tuple[_Bytes, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BlockType:
    """How the blocks of one type map onto a number format, without any rounding.

    Parameters
    ----------
    format : str
        Name in the catalogue.
    group_size : int
        Weights that share scales; a block has one or more such groups.
    decode : callable
        Takes blocks, uint8 array of shape (B, block_bytes). Returns codes of the format, uint8 of
        shape (B, block_length), and scales in its units, float32 of shape (B, groups, C), which are
        exact products of what the block holds. A scale that is NaN or infinite there is one here.

    Source
    ------
    ggml-common.h for the layouts, ggml-quants.c for what they mean.
    """

    format: str
    group_size: int
    decode: Callable[[_Bytes], _Decoded]


def _half(blocks: _Bytes, start: int) -> npt.NDArray[np.float32]:
    """Return the float16 at a byte of each block, ``(B, 1) float32``."""
    pairs = np.ascontiguousarray(blocks[:, start : start + 2])
    return pairs.view("<f2").astype(np.float32)


def _fields(packed: _Bytes, width: int, run: int) -> _Bytes:
    """Spread bytes out to fields of some bits.

    Each run of bytes holds ``8 // width`` runs of fields: first all lowest bits, then the next.

    Returns
    -------
    uint8 array, shape (B, 8 // width * bytes)
    """
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    spread = packed.reshape(len(packed), -1, 1, run) >> shifts & np.uint8((1 << width) - 1)
    return spread.reshape(len(packed), -1)


def _times(halves: npt.NDArray[np.float32], factors: npt.NDArray) -> npt.NDArray[np.float32]:
    """Multiply halves with integers of at most 8 bits: exact, 19 bits of 24; as ``(B, G, 1)``."""
    with np.errstate(invalid="ignore"):  # an infinite half times 0; the caller looks for NaN
        return (halves * factors.astype(np.float32))[:, :, None]


def _q4_0(blocks: _Bytes) -> _Decoded:
    return _fields(blocks[:, 2:], 4, 16) ^ np.uint8(8), _half(blocks, 0)[:, :, None]


def _q4_1(blocks: _Bytes) -> _Decoded:
    return _fields(blocks[:, 4:], 4, 16), _two_halves(blocks)


def _q5_0(blocks: _Bytes) -> _Decoded:
    return _five_bits(blocks[:, 2:]) ^ np.uint8(16), _half(blocks, 0)[:, :, None]


def _q5_1(blocks: _Bytes) -> _Decoded:
    return _five_bits(blocks[:, 4:]), _two_halves(blocks)


def _five_bits(packed: _Bytes) -> _Bytes:
    """Put 32 high bits, one a weight from the lowest, above their nibbles."""
    high = np.unpackbits(packed[:, :4], axis=1, bitorder="little")
    return _fields(packed[:, 4:], 4, 16) | high << np.uint8(4)


def _two_halves(blocks: _Bytes) -> npt.NDArray[np.float32]:
    """Return step and offset of each block, ``(B, 1, 2)``."""
    return np.stack([_half(blocks, 0), _half(blocks, 2)], axis=2)


def _q8_0(blocks: _Bytes) -> _Decoded:
    return blocks[:, 2:], _half(blocks, 0)[:, :, None]


def _q2_k(blocks: _Bytes) -> _Decoded:
    steps, offsets = blocks[:, :16] & np.uint8(15), blocks[:, :16] >> np.uint8(4)
    return _fields(blocks[:, 16:80], 2, 32), np.concatenate(
        [_times(_half(blocks, 80), steps), _times(-_half(blocks, 82), offsets)], axis=2
    )


def _q3_k(blocks: _Bytes) -> _Decoded:
    low = _fields(blocks[:, 32:96], 2, 32)
    high = _fields(blocks[:, :32], 1, 32)
    # A set bit means that no 4 is taken off, so that as a sign bit it is the other way round.
    codes = low | (high ^ np.uint8(1)) << np.uint8(2)
    sixes = _fields(blocks[:, 96:104], 4, 8) | _fields(blocks[:, 104:108], 2, 4) << np.uint8(4)
    return codes, _times(_half(blocks, 108), sixes.astype(np.int8) - np.int8(32))


def _q4_k(blocks: _Bytes) -> _Decoded:
    return _fields(blocks[:, 16:], 4, 32), _six_bit_scales(blocks)


def _q5_k(blocks: _Bytes) -> _Decoded:
    high = _fields(blocks[:, 16:48], 1, 32)
    return _fields(blocks[:, 48:], 4, 32) | high << np.uint8(4), _six_bit_scales(blocks)


def _six_bit_scales(blocks: _Bytes) -> npt.NDArray[np.float32]:
    """Return eight steps and offsets of each block, ``(B, 8, 2)``.

    Six bits each, in three times four bytes: the first four steps, the first four offsets, and four
    bits of both of the others, whose upper two bits are above those of the first.
    """
    first_steps, first_offsets, others = np.split(blocks[:, 4:16], 3, axis=1)
    low, high, top = np.uint8(15), np.uint8(0x30), np.uint8(2)
    steps = np.hstack([first_steps & np.uint8(63), others & low | first_steps >> top & high])
    offsets = np.hstack([
        first_offsets & np.uint8(63),
        others >> np.uint8(4) | first_offsets >> top & high,
    ])
    return np.concatenate(
        [_times(_half(blocks, 0), steps), _times(-_half(blocks, 2), offsets)], axis=2
    )


def _q6_k(blocks: _Bytes) -> _Decoded:
    codes = _fields(blocks[:, :128], 4, 64) | _fields(blocks[:, 128:192], 2, 32) << np.uint8(4)
    return codes ^ np.uint8(32), _times(_half(blocks, 208), blocks[:, 192:208].view(np.int8))


def _iq4_nl(blocks: _Bytes) -> _Decoded:
    return _fields(blocks[:, 2:], 4, 16), _half(blocks, 0)[:, :, None]


def _iq4_xs(blocks: _Bytes) -> _Decoded:
    # Both halves of a scale go byte by byte here, lowest bits first.
    low = _fields(blocks[:, 4:8], 4, 1)
    high = _fields(blocks[:, 2:4], 2, 1)
    scales = (low | high << np.uint8(4)).astype(np.int8) - np.int8(32)
    return _fields(blocks[:, 8:], 4, 16), _times(_half(blocks, 0), scales)


def _tq1_0(blocks: _Bytes) -> _Decoded:
    digits = [_trits(blocks[:, :32], 5), _trits(blocks[:, 32:48], 5), _trits(blocks[:, 48:52], 4)]
    return _ternary(np.hstack(digits)), _half(blocks, 52)[:, :, None]


def _trits(packed: _Bytes, count: int) -> _Bytes:
    """Return base-3 digits of each byte, the first of every byte first.

    A byte is the fraction 0.dddddd in base 3, in steps of 1/256 and rounded up: times 3, the whole
    part is a digit and the rest is the fraction of those behind it.
    """
    runs = []
    for _ in range(count):
        tripled = packed.astype(np.uint16) * np.uint16(3)
        runs.append((tripled >> np.uint16(8)).astype(np.uint8))
        packed = tripled.astype(np.uint8)
    return np.hstack(runs)


def _tq2_0(blocks: _Bytes) -> _Decoded:
    return _ternary(_fields(blocks[:, :64], 2, 32)), _half(blocks, 64)[:, :, None]


def _ternary(digits: _Bytes) -> _Bytes:
    """Turn 0, 1, 2 for -1, 0, 1 into two's complement; 3, which is no weight, becomes 2."""
    return digits + np.uint8(3) & np.uint8(3)


def _mxfp4(blocks: _Bytes) -> _Decoded:
    exponents = blocks[:, :1].astype(np.int32)
    scales = np.where(exponents == 255, np.nan, np.ldexp(1.0, exponents - 127))
    return _fields(blocks[:, 1:], 4, 16), scales.astype(np.float32)[:, :, None]


BLOCK_TYPES: dict[str, BlockType] = {
    "Q4_0": BlockType("int4", 32, _q4_0),
    "Q4_1": BlockType("int4_affine", 32, _q4_1),
    "Q5_0": BlockType("int5", 32, _q5_0),
    "Q5_1": BlockType("int5_affine", 32, _q5_1),
    "Q8_0": BlockType("int8", 32, _q8_0),
    "Q2_K": BlockType("int2_affine", 16, _q2_k),
    "Q3_K": BlockType("int3", 16, _q3_k),
    "Q4_K": BlockType("int4_affine", 32, _q4_k),
    "Q5_K": BlockType("int5_affine", 32, _q5_k),
    "Q6_K": BlockType("int6", 16, _q6_k),
    "IQ4_NL": BlockType("iq4_nl", 32, _iq4_nl),
    "IQ4_XS": BlockType("iq4_nl", 32, _iq4_xs),
    "TQ1_0": BlockType("ternary", 256, _tq1_0),
    "TQ2_0": BlockType("ternary", 256, _tq2_0),
    "MXFP4": BlockType("float4_e2m1", 32, _mxfp4),
}
"""Types that can be imported, by ggml's names."""
