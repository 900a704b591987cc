import numpy as np
import pytest

from lutra.formats import QuantizedMatrix, family
from lutra.quant import quantize, uniform_to_bcq


def extreme(name, scale, scale_width):
    """Return a matrix with every code, every zero-point and one group scale."""
    item = family(name).members[0]
    count = 1 << item.code_width
    return QuantizedMatrix(
        members=(item,),
        group_size=count,
        codes=np.tile(np.arange(count, dtype=np.uint8), (count, 1)),
        format_ids=np.zeros((count, 1), np.uint8),
        scales=np.full((count, 1, 1), scale, np.int32),
        zeros=np.arange(count, dtype=np.uint8)[:, None] * np.uint8(item.has_zero_point),
        row_scales=np.full(count, 0.37, np.float32),
        scale_width=scale_width,
        bias=np.arange(count, dtype=np.float32),
    )


@pytest.mark.parametrize("group_size", [16, 32, "row"])
@pytest.mark.parametrize("name", [f"int{b}{a}" for b in (2, 3, 4) for a in ("", "_asym")])
def test_weights_stay_the_same(name, group_size):
    rng = np.random.default_rng(17)
    weights = rng.standard_normal((12, 75)).astype(np.float32) + 0.3
    weights[0] = 0
    before = quantize(weights, format=name, group_size=group_size, bias=np.ones(12))
    after = uniform_to_bcq(before, scale_width=16)
    assert after.members == family(f"bcq{name[3]}_asym").members
    assert np.array_equal(after.integer_weights(), 2 * before.integer_weights())
    assert np.array_equal(after.row_scales * 2, before.row_scales)
    assert np.array_equal(after.dequantize(), before.dequantize())
    assert after.bias is before.bias
    assert after.group_size == before.group_size


@pytest.mark.parametrize("scale", [1, -3, 255])
@pytest.mark.parametrize("name", [f"int{b}{a}" for b in (2, 3, 4) for a in ("", "_asym")])
def test_every_code_and_zero_point(name, scale):
    before = extreme(name, scale, 8)
    after = uniform_to_bcq(before, scale_width=16)
    assert np.array_equal(after.dequantize(), before.dequantize())


@pytest.mark.parametrize(("name", "needed"), [("int4", 11), ("int4_asym", 12), ("int2", 9)])
def test_too_narrow_scales_name_the_width_that_would_do(name, needed):
    before = extreme(name, 255, 8)
    with pytest.raises(ValueError, match=rf"scale width of 8; scale_width={needed} would do"):
        uniform_to_bcq(before)
    with pytest.raises(ValueError, match=rf"scale_width={needed} would do"):
        uniform_to_bcq(before, scale_width=needed - 1)
    assert np.array_equal(
        uniform_to_bcq(before, scale_width=needed).dequantize(), before.dequantize()
    )


def test_scales_beyond_16_bits_name_the_width_to_quantise_with():
    before = extreme("int4_asym", 65535, 16)
    with pytest.raises(ValueError, match="quantise with a scale width of 12"):
        uniform_to_bcq(before)
    assert uniform_to_bcq(extreme("int4_asym", 4095, 12), scale_width=16)


@pytest.mark.parametrize("name", ["float4_e2m1", "bcq2", "bitmod4"])
def test_other_formats_are_refused(name):
    made = quantize(np.ones((2, 4)), format=name)
    with pytest.raises(ValueError, match="uniform"):
        uniform_to_bcq(made)


def test_more_bits_than_the_catalogue_has():
    with pytest.raises(ValueError, match="bcq8_asym"):
        uniform_to_bcq(quantize(np.ones((2, 4)), format="int8"))


def test_row_scales_that_cannot_be_halved():
    made = quantize(np.full((1, 4), 1.0), format="int2", group_size="row")
    odd = QuantizedMatrix(**{**made.__dict__, "row_scales": np.array([1e-45], np.float32)})
    with pytest.raises(ValueError, match="halved exactly"):
        uniform_to_bcq(odd)
