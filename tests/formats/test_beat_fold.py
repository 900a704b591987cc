"""Folded beats: NumPy and lists agree, and what the checksum is said to find it finds."""

import functools
import itertools
import random
import zlib

import numpy as np
import pytest

from lutra.formats.beat_fold import BeatFold

WIDTHS = [136, 192, 256, 512, 520, 1024, 1032, 2048, 4096, 4104, 16392]


def _columns(fold):
    """Folded bits that each bit of a beat changes, as integers."""
    columns = [0] * fold.beat_width
    for index, positions in enumerate(fold.sums):
        for position in positions:
            columns[position] |= 1 << index
    return columns


def _syndromes(fold, beats=1):
    """Bits of the checksum that each bit of so many beats changes, the last beat's first."""
    size = fold.width // 8 * beats
    # The checksum is linear but for a constant: that of zeros.
    of_bit = np.array(
        [
            zlib.crc32((1 << position).to_bytes(size, "little")) ^ zlib.crc32(bytes(size))
            for position in range(size * 8)
        ],
        dtype=np.uint32,
    ).reshape(beats, -1)
    syndromes = np.zeros((beats, fold.beat_width), dtype=np.uint32)
    for index, positions in enumerate(fold.sums):
        syndromes[:, list(positions)] ^= of_bit[:, index, None]
    return syndromes[::-1].ravel()


def _rank(vectors):
    """Count the independent ones among integers as vectors of bits."""
    basis = {}
    for vector in vectors:
        while vector and vector.bit_length() in basis:
            vector ^= basis[vector.bit_length()]
        if vector:
            basis[vector.bit_length()] = vector
    return len(basis)


@pytest.mark.parametrize("width", [32, 40, 64, 128])
def test_narrow_beats_are_not_folded(width):
    fold = BeatFold(width)
    beats = np.random.default_rng(width).integers(0, 256, (9, width // 8), dtype=np.uint8)
    assert np.array_equal(fold.fold(beats), beats)
    assert fold.sums == tuple((position,) for position in range(width))
    assert fold.checksum(beats) == zlib.crc32(beats.tobytes())


@pytest.mark.parametrize("width", [*WIDTHS, 131072])
def test_numpy_and_lists_agree(width):
    fold = BeatFold(width)
    beats = np.random.default_rng(width).integers(0, 256, (5, width // 8), dtype=np.uint8)
    beats[0] = 255
    beats[1, :-1] = 0
    bits = np.unpackbits(beats, axis=1, bitorder="little")
    sums = [bits[:, list(positions)].sum(axis=1) & 1 for positions in fold.sums]
    folded = np.packbits(np.stack(sums, axis=1), axis=1, bitorder="little")
    assert np.array_equal(fold.fold(beats), folded)
    assert fold.checksum(beats) == zlib.crc32(folded.tobytes())
    assert fold.checksum(beats[:0]) == zlib.crc32(b"")


@pytest.mark.parametrize("width", range(136, 131073, 1000))
def test_numbers(width):
    fold = BeatFold(width)
    assert fold.words <= fold.word_width < fold.diagonals
    assert fold.word_width == 32 or (fold.word_width // 2) ** 2 < width
    # Two is a primitive root: its powers are all numbers below the prime.
    powers = {pow(2, exponent, fold.diagonals) for exponent in range(fold.diagonals)}
    assert powers == set(range(1, fold.diagonals))
    assert 0 <= fold.width - (fold.diagonals + fold.words) < 8
    assert sum(map(len, fold.sums)) == 2 * width


@pytest.mark.parametrize("width", [136, 256, 384])
def test_up_to_three_bits_change_the_folded_beat(width):
    columns = _columns(BeatFold(width))
    pairs = {a ^ b for a, b in itertools.combinations(columns, 2)}
    assert 0 not in columns
    assert 0 not in pairs
    assert not pairs & set(columns)


@pytest.mark.parametrize("width", WIDTHS)
def test_any_odd_number_of_bits_changes_it(width):
    """Sums of words have a linear combination, all of them, that counts every bit once."""
    fold = BeatFold(width)
    sums = fold.sums[fold.diagonals : fold.diagonals + fold.words]
    assert sorted(itertools.chain(*sums)) == list(range(width))


@pytest.mark.parametrize("width", [136, 160, 256, 512, 1024, 1088, 4096])
def test_the_same_error_in_any_words_changes_it(width):
    """In one, that is, any error within a word; in two, words that differ and are exchanged too."""
    fold = BeatFold(width)
    size, columns = fold.word_width, _columns(fold)
    words = [columns[i * size : (i + 1) * size] for i in range(width // size)]
    rng = random.Random(width)
    chosen = [[i] for i in range(len(words))]
    chosen += list(itertools.combinations(range(len(words)), 2))[:200]
    chosen += [rng.sample(range(len(words)), rng.randint(2, len(words))) for _ in range(200)]
    chosen += [range(len(words))]
    for several in chosen:
        # What each bit of the error changes, diagonals only: no error is without effect.
        of_bits = zip(*(words[i] for i in several), strict=True)
        diagonals = (1 << fold.diagonals) - 1
        effects = [functools.reduce(int.__xor__, bits) & diagonals for bits in of_bits]
        assert _rank(effects) == size, several


@pytest.mark.parametrize("width", WIDTHS)
def test_the_checksum_finds_two_bits(width):
    """Any two within as many beats as make 2974 bits, and so any one."""
    fold = BeatFold(width)
    beats = 2974 // fold.width
    syndromes = _syndromes(fold, beats)
    assert beats >= 3
    assert syndromes.all()
    assert len(np.unique(syndromes)) == width * beats


@pytest.mark.parametrize("width", [136, 512, 1024, 2048, 4096])
def test_the_checksum_finds_three_bits_of_a_beat(width):
    syndromes = _syndromes(BeatFold(width))
    for index in range(width):
        assert not np.isin(syndromes[index + 1 :] ^ syndromes[index], syndromes).any()


@pytest.mark.parametrize(("bits", "half"), [(2974, 2), (171, 3)])
def test_errors_that_the_crc_finds(bits, half):
    """Sums of up to half as many errors differ, those of the checksum's own 32 bits included."""
    size = -(-bits // 8)
    zeros = zlib.crc32(bytes(size))
    effects = [1 << i for i in range(32)]
    for position in range(8 * size - bits, 8 * size):
        effects.append(zlib.crc32((1 << position).to_bytes(size, "little")) ^ zeros)
    errors = np.array(effects, dtype=np.uint32)
    sums, last = [np.zeros(1, dtype=np.uint32)], np.array([-1])
    for _ in range(half):
        below = [last < i for i in range(len(errors))]
        values = [sums[-1][chosen] ^ error for chosen, error in zip(below, errors, strict=True)]
        last = np.concatenate([np.full(len(of), i) for i, of in enumerate(values)])
        sums.append(np.concatenate(values))
    everything = np.sort(np.concatenate(sums))
    assert (everything[1:] != everything[:-1]).all()
