"""Free formats: a codebook of each group's own."""

import numpy as np
import pytest

from lutra.formats import FreeFormat, member
from lutra.sim import random_matrix


@pytest.mark.parametrize("width", [2, 3, 4])
def test_weights_are_entries(width):
    item = member(f"free{width}")
    assert isinstance(item, FreeFormat)
    assert item.code_width == width
    assert item.scale_count == 1 << width
    assert item.peak == 1
    assert not item.has_zero_point
    entries = np.random.default_rng(width).integers(-(2**31) + 1, 2**31, (3, 5, 1 << width))
    assert np.array_equal(item.weight_table(entries), entries)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_planes_tell_where_an_entry_stands(width):
    item = FreeFormat("odd", width)
    assert len(item.planes) == 1 << width
    for entry, plane in enumerate(item.planes):
        assert (plane.coefficient, plane.scale_index, plane.bipolar) == (1, entry, False)
        digits = [int(code == entry) for code in range(1 << width)]
        assert plane.digits(width).tolist() == digits
        assert list(item.term_steps[entry].values) == digits


def test_a_matrix_of_codebooks():
    matrix = random_matrix("free3", 4, 21, 8, seed=5, scale_width=31)
    assert matrix.scales.shape == (4, 3, 8)
    weights = matrix.integer_weights()
    for n in range(4):
        for k in range(21):
            assert weights[n, k] == matrix.scales[n, k // 8, matrix.codes[n, k]]


def test_codebooks_of_whole_rows():
    matrix = random_matrix("free4", 3, 40, 40, seed=6)
    assert matrix.groups == 1
    books, codes = matrix.scales[:, 0], matrix.codes.astype(int)
    assert np.array_equal(matrix.integer_weights(), np.take_along_axis(books, codes, axis=1))
