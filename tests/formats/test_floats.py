"""Bit fields of floating-point types, and the two conversions of bfloat16."""

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import FLOATS, round_to_bfloat16, widen_bfloat16

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}


def test_known_types():
    assert set(FLOATS) == set(DTYPES)


@pytest.mark.parametrize("name", FLOATS)
def test_fields_are_those_of_the_dtype(name):
    float_type, info = FLOATS[name], ml_dtypes.finfo(DTYPES[name])
    assert float_type.name == name
    assert float_type.width == info.bits == 8 * DTYPES[name].itemsize
    assert float_type.exponent_width == info.iexp
    assert float_type.fraction_width == info.nmant
    assert float_type.bias == info.maxexp - 1 == 1 - info.minexp
    assert float_type.exponent_mask == 2**float_type.exponent_width - 1


@pytest.mark.parametrize("name", FLOATS)
def test_special_patterns(name):
    float_type, dtype = FLOATS[name], DTYPES[name]
    unsigned = np.dtype(f"u{dtype.itemsize}")
    infinity = np.array([float_type.infinity], unsigned).view(dtype)
    largest = np.array([float_type.infinity - 1], unsigned).view(dtype)
    quiet_nan = np.array([float_type.quiet_nan], unsigned).view(dtype)
    assert infinity[0] == float("inf")
    assert largest[0] == ml_dtypes.finfo(dtype).max
    assert np.isnan(quiet_nan[0])
    assert quiet_nan.view(unsigned)[0] == np.array([float("nan")]).astype(dtype).view(unsigned)[0]


def test_quiet_nans_of_the_contract():
    patterns = {name: float_type.quiet_nan for name, float_type in FLOATS.items()}
    assert patterns == {"float16": 0x7E00, "bfloat16": 0x7FC0, "float32": 0x7FC00000}


def test_widen_every_bfloat16():
    bits = np.arange(1 << 16, dtype=np.uint16)
    expected = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    # A signalling NaN keeps its bits here; a conversion may quieten it.
    finite = ~np.isnan(expected)
    widened = widen_bfloat16(bits)
    assert np.array_equal(widened.view(np.uint32)[finite], expected.view(np.uint32)[finite])
    assert np.isnan(widened[~finite]).all()


def test_round_to_bfloat16():
    bits = np.arange(1 << 16, dtype=np.uint32) << 16
    bits = bits[(bits >> 23 & 0xFF) != 0xFF]
    tails = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=np.uint32)
    x = (bits[:, None] | tails).view(np.float32)
    infinite = np.array([[np.inf, -np.inf]], dtype=np.float32)
    for numbers in (x, infinite):
        with np.errstate(over="ignore"):
            expected = numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
        assert np.array_equal(round_to_bfloat16(numbers), expected)


def test_round_the_quiet_nan():
    nan = np.array([FLOATS["float32"].quiet_nan], dtype=np.uint32).view(np.float32)
    assert round_to_bfloat16(nan).tolist() == [FLOATS["bfloat16"].quiet_nan]
