"""Scales that spread too far for integers."""

import numpy as np
import pytest

from lutra.formats import member
from lutra.quant.imports.exact_matrix import exact_matrix

FAR = 2.0**40


def test_groups_of_zeros_do_not_constrain_their_row():
    matrix = exact_matrix(
        codes=np.array([[3] * 8 + [0] * 8], np.uint8),
        members=member("int4"),
        group_size=8,
        scales=np.array([[FAR, 1.5]]),
    )
    np.testing.assert_array_equal(matrix.dequantize(), [[3 * FAR] * 8 + [0.0] * 8])


@pytest.mark.parametrize(
    ("name", "code", "scales"),
    [
        ("bcq2", 1, [3, 1]),  # 3 - 1, where scales of 1 would cancel
        ("bcq1_asym", 0, [3, 1]),  # -3 + 1
        ("bcq3_asym", 1, [5, 1, 2, 1]),
    ],
)
def test_signs_that_cancel_are_no_zeros(name, code, scales):
    codes = np.full((1, 16), code, np.uint8)
    wide = np.array([[np.full(len(scales), FAR), scales]])
    with pytest.raises(ValueError, match=r"Scales of row 0 need 4[0-9] bits"):
        exact_matrix(codes=codes, members=member(name), group_size=8, scales=wide)
