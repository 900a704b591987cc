"""Affine formats: a scale and an additive constant a group, as planes and as steps."""

import numpy as np
import pytest

from lutra.formats import CATALOG, AffineFormat, member
from lutra.sim import random_matrix


@pytest.mark.parametrize("width", range(2, 9))
def test_weights(width):
    item = member(f"int{width}_affine")
    assert isinstance(item, AffineFormat)
    assert item.code_width == width
    assert not item.has_zero_point
    rng = np.random.default_rng(width)
    for scale, offset in rng.integers(-(2**31) + 1, 2**31, (20, 2)).tolist():
        table = item.weight_table([scale, offset])
        assert table.tolist() == [scale * code + offset for code in range(1 << width)]


@pytest.mark.parametrize("width", range(1, 9))
def test_planes(width):
    """Bits of the code share the first scale, the constant has the second."""
    item = AffineFormat("odd", width)
    assert item.scale_count == 2
    assert item.peak == (1 << width) - 1 + 1
    *bits, always = item.planes
    for bit, plane in enumerate(bits):
        assert (plane.coefficient, plane.scale_index, plane.bipolar) == (1 << bit, 0, False)
        assert [plane.truth >> code & 1 for code in range(1 << width)] == [
            code >> bit & 1 for code in range(1 << width)
        ]
    assert (always.coefficient, always.scale_index, always.bipolar) == (1, 1, False)
    assert always.truth == (1 << (1 << width)) - 1
    assert [step.scale_index for step in item.term_steps] == [*[0] * width, 1]


def test_a_fractional_zero_point_is_exact():
    """What scale * (code - 7.25) is in steps of a quarter of the scale."""
    item = member("int4_affine")
    weights = item.weight_table([4, -29])
    assert weights.tolist() == [4 * code - 29 for code in range(16)]
    assert (weights / 4).tolist() == [code - 7.25 for code in range(16)]


def test_a_matrix_of_two_scales_a_group():
    matrix = random_matrix(CATALOG["int3_affine"], 5, 20, 8, seed=3, scale_width=31)
    weights = matrix.integer_weights()
    assert weights.dtype == np.int64
    for n in range(5):
        for k in range(20):
            scale, offset = matrix.scales[n, k // 8].tolist()
            assert weights[n, k] == scale * int(matrix.codes[n, k]) + offset
