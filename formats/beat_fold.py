"""What a section's checksum covers of each beat: sums of its bits, far fewer than it has."""

import zlib
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["BeatFold"]

_WIDEST_UNFOLDED = 128
# Primes of which 2 is a primitive root, each the smallest above the bits of a word: then the same
# error in any words of a beat never cancels (docs/weight-stream.md has the reason).
_DIAGONALS = {32: 37, 64: 67, 128: 131, 256: 269, 512: 523}

_CHUNK = 64  # bits that are shifted at once
_PARITY = np.array([value.bit_count() & 1 for value in range(1 << 16)], dtype=np.uint8)


class BeatFold:
    """How a beat of the weight stream is folded for the checksum, and the checksum itself.

    A wide beat is cut into ``words`` of ``word_width`` bits. Bit ``j`` of word ``l`` counts in two
    sums without carry: that of diagonal ``(j + l) % diagonals`` and that of its word. The folded
    beat has the sums of the diagonals, from bit 0 on, then those of the words, then zeros up to a
    whole byte. Beats of at most 128 bits are not folded.

    Parameters
    ----------
    beat_width : int
        Bits of a beat, a multiple of 8, at most 512 * 512.

    Source
    ------
    Own derivation; sums along rows and diagonals are those of Blaum and Roth's array codes, "New
    array codes for multiple phased burst correction", IEEE Trans. Inf. Theory 39 (1993).
    """

    def __init__(self, beat_width: int) -> None:
        self.beat_width = beat_width
        folded = beat_width > _WIDEST_UNFOLDED
        self.word_width = next(w for w in _DIAGONALS if w * w >= beat_width) if folded else 0
        self.diagonals = _DIAGONALS[self.word_width] if folded else 0
        self.words = -(-beat_width // self.word_width) if folded else 0

    @cached_property
    def sums(self) -> tuple[tuple[int, ...], ...]:
        """Bits of the beat whose sum each bit of the folded beat is; those that fill up have none.

        A beat that is not folded has sums of one bit each.
        """
        if not self.words:
            return tuple((position,) for position in range(self.beat_width))
        sums: list[list[int]] = [[] for _ in range(-(-(self.diagonals + self.words) // 8) * 8)]
        for position in range(self.beat_width):
            word, bit = divmod(position, self.word_width)
            sums[(bit + word) % self.diagonals].append(position)
            sums[self.diagonals + word].append(position)
        return tuple(map(tuple, sums))

    @property
    def width(self) -> int:
        """Bits of a folded beat."""
        return len(self.sums)

    def checksum(self, beats: npt.NDArray[np.uint8]) -> int:
        """Return the CRC-32 of folded beats, the checksum of a section.

        Parameters
        ----------
        beats : uint8 array, shape (beats, beat_width / 8)
            Byte 0 holds a beat's lowest bits.
        """
        return zlib.crc32(self.fold(beats).tobytes())

    def fold(self, beats: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Fold beats.

        Parameters
        ----------
        beats : uint8 array, shape (beats, beat_width / 8)
            Byte 0 holds a beat's lowest bits.

        Returns
        -------
        uint8 array, shape (beats, width / 8)
        """
        if not self.words:
            return beats
        words = self._cut(beats)
        # A row of chunks for all beats side by side, the lowest first.
        straight = _zeros(2 * self.diagonals, len(beats))
        for index, word in enumerate(words):
            _add(straight, index, word)
        folded = _zeros(self.width, len(beats))
        _add(folded, 0, _bits(straight, 0, self.diagonals))
        _add(folded, 0, _bits(straight, self.diagonals, 2 * self.diagonals))
        for index, parity in enumerate(_parities(words)):
            _add(folded, self.diagonals + index, parity[None])
        raw = np.ascontiguousarray(folded.T).view(np.uint8)
        return raw[:, : self.width // 8]

    def _cut(self, beats: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        """Return the words of all beats as chunks, shape (words, chunks of a word, beats)."""
        size = self.words * self.word_width // 8
        raw = np.zeros((len(beats), size), dtype=np.uint8)
        raw[:, : beats.shape[1]] = beats
        chunk = min(self.word_width, _CHUNK)
        chunks = raw.view(f"<u{chunk // 8}").T.astype(np.uint64)
        return chunks.reshape(self.words, self.word_width // chunk, len(beats))


# Bits of many beats at once: arrays of shape (chunks, beats), the lowest chunk first.


def _zeros(width: int, beats: int) -> npt.NDArray[np.uint64]:
    """Return so many zero bits of each beat, and a chunk to shift into."""
    return np.zeros((-(-width // _CHUNK) + 1, beats), dtype="<u8")


def _add(target: npt.NDArray[np.uint64], position: int, bits: npt.NDArray[np.uint64]) -> None:
    """Add bits, without carry, from a position on."""
    first, shift = divmod(position, _CHUNK)
    count = min(len(bits), len(target) - first)  # what is cut off is zero
    target[first : first + count] ^= bits[:count] << np.uint64(shift)
    count = min(len(bits), len(target) - first - 1)
    if shift:
        target[first + 1 : first + 1 + count] ^= bits[:count] >> np.uint64(_CHUNK - shift)


def _bits(source: npt.NDArray[np.uint64], start: int, stop: int) -> npt.NDArray[np.uint64]:
    """Return bits ``start`` to ``stop - 1``."""
    first, shift = divmod(start, _CHUNK)
    count = -(-(stop - start) // _CHUNK)
    padded = np.concatenate([source[first:], _zeros(_CHUNK * (count + 1), source.shape[1])])
    bits = padded[:count] >> np.uint64(shift)
    if shift:
        bits |= padded[1 : count + 1] << np.uint64(_CHUNK - shift)
    unused = count * _CHUNK - (stop - start)
    bits[-1] &= np.uint64((1 << _CHUNK) - 1 >> unused)
    return bits


def _parities(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the sum of the bits of each word, shape (words, beats)."""
    mixed = np.bitwise_xor.reduce(words, axis=1)
    mixed ^= mixed >> np.uint64(32)
    mixed ^= mixed >> np.uint64(16)
    return _PARITY[mixed.astype(np.uint16)].astype(np.uint64)
