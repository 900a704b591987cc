"""Min-max quantisation to affine formats, against a plain loop."""

import numpy as np
import pytest

from lutra.formats import family
from lutra.quant import method_for, quantize


def _weights(rows, columns, seed=1):
    rng = np.random.default_rng(seed)
    shifts = np.linspace(-3, 3, rows)[:, None]
    return (rng.standard_normal((rows, columns)) + shifts).astype(np.float32)


@pytest.mark.parametrize("bits", range(2, 9))
def test_equals_a_plain_loop(bits):
    """Codes of every group, and both scales to half a step of the row's."""
    weights = _weights(9, 72, seed=bits)
    made = quantize(weights, format=f"int{bits}_affine", group_size=16, scale_width=16)
    top = (1 << bits) - 1
    for row in range(9):
        step = float(made.row_scales[row])
        for group in range(5):
            part = weights[row, 16 * group : 16 * group + 16]
            low, high = float(part.min()), float(part.max())
            scale = float(np.float32((high - low) / top))
            codes = [min(max(round((float(x) - low) / scale), 0), top) for x in part]
            assert made.codes[row, 16 * group : 16 * group + 16].tolist() == codes
            stored = made.scales[row, group] * step
            assert abs(stored[0] - scale) <= step / 2 * (1 + 1e-6)
            assert abs(stored[1] - low) <= step / 2 * (1 + 1e-6)


@pytest.mark.parametrize("bits", range(2, 9))
def test_error_is_bounded(bits):
    """Half a step of the group's scale, and what rounding of both scales adds."""
    weights = _weights(9, 200, seed=bits)
    made = quantize(weights, format=f"int{bits}_affine", group_size=32, scale_width=16)
    row_scales = made.row_scales.astype(np.float64)[:, None]
    scales = made.expand(made.scales[:, :, 0]) * row_scales
    slack = row_scales / 2 * ((1 << bits) + 1)
    errors = np.abs(made.dequantize() - weights)
    assert (errors <= (scales / 2 + slack) * (1 + 1e-5)).all()


def test_ends_of_a_group():
    """Code 0 is the least weight, the last code the greatest."""
    weights = _weights(4, 64)
    codes = quantize(weights, format="int4_affine", group_size=64).codes
    for row in range(4):
        assert codes[row, weights[row].argmin()] == 0
        assert codes[row, weights[row].argmax()] == 15


def test_equal_weights_have_no_scale():
    weights = np.full((2, 24), -0.75, dtype=np.float32)
    weights[1] = 0
    made = quantize(weights, format="int4_affine", group_size=8, scale_width=2)
    assert not made.codes.any()
    assert not made.scales[:, :, 0].any()
    assert np.array_equal(made.dequantize(), weights.astype(np.float64))


def test_opposite_extremes():
    """Their distance is over the largest float32."""
    weights = np.array([[-3e38, 3e38, 0, 1e38]], dtype=np.float32)
    made = quantize(weights, format="int2_affine", group_size=4, scale_width=16)
    assert np.isfinite(made.row_scales).all()
    assert made.codes.tolist() == [[0, 3, 2, 2]]


@pytest.mark.parametrize("bits", range(2, 9))
def test_is_the_default_of_affine_formats(bits):
    assert method_for(family(f"int{bits}_affine")).name == "minmax"


def test_other_formats_are_refused():
    with pytest.raises(ValueError, match=r"^Method 'minmax' cannot quantise to format 'int4'"):
        quantize(_weights(2, 8), format="int4", method="minmax")
