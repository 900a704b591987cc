import numpy as np
import pytest

from lutra.quant.row_scales import row_scales


@pytest.mark.parametrize("width", [1, 4, 8, 16])
def test_largest_scale_takes_the_largest_integer(width):
    rng = np.random.default_rng(width)
    scales = rng.standard_normal((50, 6, 3)).astype(np.float32)
    integers, steps = row_scales(scales, width)
    limit = (1 << width) - 1
    assert integers.dtype == np.int32
    assert steps.dtype == np.float32
    assert (np.abs(integers).max(axis=(1, 2)) == limit).all()
    errors = np.abs(integers * steps.astype(np.float64)[:, None, None] - scales)
    assert (errors <= 0.5 * steps[:, None, None] * (1 + 1e-6) + limit * 1e-9).all()


def test_rounding_is_half_to_even_in_steps_of_the_row():
    scales = np.array([[[255.0], [0.5], [1.5], [2.5], [-2.5]]], dtype=np.float32)
    integers, steps = row_scales(scales, 8)
    assert steps.tolist() == [1.0]
    assert integers[0, :, 0].tolist() == [255, 0, 2, 2, -2]


def test_single_scale_is_kept_exactly():
    scales = np.array([[[0.1]], [[0.0]], [[-3e-39]], [[3e38]]], dtype=np.float32)
    integers, steps = row_scales(scales, 8)
    assert integers[:, 0, 0].tolist() == [1, 0, 1, 1]
    assert (steps == scales[:, 0, 0]).all()


def test_zero_and_subnormal_rows():
    scales = np.zeros((3, 2, 1), dtype=np.float32)
    scales[1] = 1e-45  # less than one float32 step after division
    scales[2] = 1e-42
    integers, steps = row_scales(scales, 8)
    assert steps[:2].tolist() == [0, 0]
    assert not integers[:2].any()
    assert (integers[2] <= 255).all()
    assert (np.abs(integers[2] * float(steps[2]) - 1e-42) <= 128 * 1.5e-45).all()
