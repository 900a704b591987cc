"""Row scales times a number: all of its bits, or a sentence."""

import numpy as np
import pytest

from lutra.formats import member
from lutra.quant.imports.exact_matrix import exact_matrix
from lutra.quant.imports.scale_rows import scale_rows

INVERSE = np.float32(1 / 127)


def matrix_of(*scales):
    return exact_matrix(
        codes=np.full((len(scales), 8), 15, np.uint8),
        members=member("nf4"),
        group_size=8,
        scales=np.array(scales)[:, None],
    )


def test_all_bits_of_the_factor():
    scales = (1.5, 2.0**-110, 0.0, 2.0**100)
    made = scale_rows(matrix_of(*scales), INVERSE).dequantize()
    np.testing.assert_array_equal(made[:, 0], 127 * np.array(scales) * np.float64(INVERSE))


# A power of two below 2^-119 times 1/127 is below float32's normal numbers, and then 0.
@pytest.mark.parametrize("scale", [2.0**-122, 1e-36, 2.0**-149])
def test_rows_that_become_too_small(scale):
    with pytest.raises(ValueError, match=r"^The scale of row 1 is .*, which float32 does not hold"):
        scale_rows(matrix_of(1.0, np.float32(scale)), INVERSE)


def test_rows_that_become_infinite():
    with pytest.raises(ValueError, match=r"^The scale of row 0 is 3\.4e\+38, which float32"):
        scale_rows(matrix_of(2.0**127), np.float32(2))
