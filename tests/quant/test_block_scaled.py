"""Block scales against transcriptions of their definitions, group by group, with ml_dtypes."""

import math

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import BLOCK_FORMATS, family
from lutra.quant.block_scaled import microscaling, nvidia_scaling

ELEMENTS = {  # element type, its largest exponent and number: OCP Microscaling Formats 1.0, table 1
    "mxfp4": (ml_dtypes.float4_e2m1fn, 2, 6.0),
    "mxfp6_e2m3": (ml_dtypes.float6_e2m3fn, 2, 7.5),
    "mxfp6_e3m2": (ml_dtypes.float6_e3m2fn, 4, 28.0),
    "mxfp8_e4m3": (ml_dtypes.float8_e4m3fn, 8, 448.0),
    "mxfp8_e5m2": (ml_dtypes.float8_e5m2, 15, 57344.0),
}


def _weights(rows, columns, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((rows, columns)) * np.exp(spread * rng.standard_normal((rows, 1)))
    return weights.astype(np.float32)


def _groups(columns, size):
    return [slice(first, min(first + size, columns)) for first in range(0, columns, size)]


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("columns", [32, 70])
@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])  # which is often half way
def test_microscaling(name, columns, kind):
    block = BLOCK_FORMATS[name]
    dtype, top, largest = ELEMENTS[name]
    weights = _weights(5, columns, 7).astype(kind).astype(np.float32)
    weights[2, :32] = 0
    made = microscaling(weights, family(block.element), block.group_size, 16).dequantize()
    for row in range(5):
        for group in _groups(columns, block.group_size):
            part = weights[row, group].astype(np.float64)
            peak = np.abs(part).max()
            scale = 2.0 ** (math.floor(math.log2(peak)) - top) if peak else 1.0
            clipped = np.clip(part / scale, -largest, largest)
            wanted = clipped.astype(np.float32).astype(dtype).astype(np.float64) * scale
            assert np.array_equal(made[row, group], wanted), (row, group)


def test_ties_go_to_even_codes():
    weights = np.array([[-7.0, 7, -5, 5, -2.5, 2.5, -0.25, 0.25, -0.75, 0.75]], dtype=np.float32)
    made = microscaling(weights, family("float4_e2m1"), 32, 8).dequantize()
    assert made.tolist() == [[-6, 6, -4, 4, -2, 2, 0, 0, -1, 1]]
    integers = microscaling(weights[:, 4:], family("int4"), 32, 8).dequantize()
    assert integers.tolist() == [[-2.5, 2.5, 0, 0, -1, 1]]


def test_far_smaller_groups_share_the_lowest_exponent():
    weights = np.array([[1.0, 1.0, 2.0**-20, 2.0**-20, 2.0**-3, 2.0**-3]], dtype=np.float32)
    made = microscaling(weights, family("int4"), 2, 8)
    assert made.scales.ravel().tolist() == [128, 1, 16]
    assert made.dequantize().tolist() == [[1, 1, 0, 0, 0.125, 0.125]]


@pytest.mark.parametrize("columns", [16, 45])
def test_nvidia_scaling(columns):
    weights = _weights(4, columns, 11, spread=2.0)
    weights[1, :16] = 0
    made = nvidia_scaling(weights, family("float4_e2m1"), 16, 8)
    assert made.scale_width == 18
    whole = np.float32(np.abs(weights).max().astype(np.float64) / (448 * 12))  # in halves of E2M1
    for row in range(4):
        for group in _groups(columns, 16):
            part = weights[row, group].astype(np.float64)
            scale = np.abs(part).max() / (12 * float(whole))
            scale = float(np.float64(scale).astype(ml_dtypes.float8_e4m3fn)) * float(whole)
            halves = (part / scale if scale else 0 * part).astype(np.float32) / np.float32(2)
            element = np.clip(halves, -6, 6).astype(ml_dtypes.float4_e2m1fn)
            wanted = 2 * element.astype(np.float64) * scale
            assert np.array_equal(made.dequantize()[row, group], wanted), (row, group)


@pytest.mark.parametrize("quantizer", [microscaling, nvidia_scaling])
@pytest.mark.parametrize("name", ["int4_asym", "bitmod4"])
def test_refused(quantizer, name):
    with pytest.raises(ValueError, match=f"one format without a zero-point, not '{name}'"):
        quantizer(np.ones((2, 4), np.float32), family(name), 2, 8)


@pytest.mark.parametrize("quantizer", [microscaling, nvidia_scaling])
def test_zeros(quantizer):
    made = quantizer(np.zeros((3, 5), np.float32), family("float4_e2m1"), 2, 8)
    assert not made.dequantize().any()
