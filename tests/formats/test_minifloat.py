"""Small floats against ml_dtypes, against the formula of their definition, and each other."""

import re
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import CATALOG, ValueFormat, member, minifloat

SPLITS = [
    (exponent, mantissa)
    for exponent in range(1, 6)
    for mantissa in range(7 - exponent + 1)
    if exponent + mantissa >= 2
]
OF_ML_DTYPES = [
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e4m3fn",
    "float8_e4m3",
    "float8_e5m2",
    "float8_e3m4",
]


def _number(code, exponent_width, mantissa_width):
    """Decode one code by the definition."""
    sign = -1 if code >> (exponent_width + mantissa_width) else 1
    exponent = code >> mantissa_width & (1 << exponent_width) - 1
    fraction = Fraction(code & (1 << mantissa_width) - 1, 1 << mantissa_width)
    bias = 2 ** (exponent_width - 1) - 1
    if exponent == 0:
        return sign * Fraction(2) ** (1 - bias) * fraction
    return sign * Fraction(2) ** (exponent - bias) * (1 + fraction)


@pytest.mark.parametrize(("exponent_width", "mantissa_width"), SPLITS)
def test_values(exponent_width, mantissa_width):
    item = minifloat(exponent_width, mantissa_width)
    assert item.code_width == 1 + exponent_width + mantissa_width
    assert item.name == f"float{item.code_width}_e{exponent_width}m{mantissa_width}"
    assert not item.unused
    grid = Fraction(2) ** item.grid_exponent
    for code, value in enumerate(item.values):
        assert value * grid == _number(code, exponent_width, mantissa_width)
    # The grid is the smallest subnormal, or the smallest number where there are none.
    assert item.values[1] == 1


@pytest.mark.parametrize("name", OF_ML_DTYPES)
def test_finite_numbers_are_those_of_ml_dtypes(name):
    item = member(name.removesuffix("fn"))
    assert isinstance(item, ValueFormat)
    codes = np.arange(1 << item.code_width, dtype=np.uint8)
    numbers = codes.view(getattr(ml_dtypes, name)).astype(np.float64)
    ours = np.array(item.values, dtype=np.float64) * 2.0**item.grid_exponent
    finite = np.isfinite(numbers)
    special = {"float8_e4m3fn": 2, "float8_e4m3": 16, "float8_e5m2": 8, "float8_e3m4": 32}
    assert (~finite).sum() == special.get(name, 0)
    assert np.array_equal(ours[finite], numbers[finite])


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2_ieee"])
def test_codes_of_ocp_that_are_no_numbers_are_not_produced(name):
    item = member(name)
    assert isinstance(item, ValueFormat)
    codes = np.arange(256, dtype=np.uint8)
    numbers = codes.view(getattr(ml_dtypes, name.removesuffix("_ieee"))).astype(np.float32)
    assert np.array_equal(np.flatnonzero(~np.isfinite(numbers)), item.unused)


def test_the_catalogue_has_all():
    names = {minifloat(*split).name for split in SPLITS}
    listed = {name for name in CATALOG if re.fullmatch(r"float\d_e\dm\d", name)}
    assert listed == names


@pytest.mark.parametrize("exponent_width", [0, 6, -1])
def test_refuses_exponents(exponent_width):
    sentence = (
        f"Exponents must have 1..5 bits, not {exponent_width}: the integers of wider ones have no "
        f"exact sums of 63 bits"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        minifloat(exponent_width, 1)


@pytest.mark.parametrize(("exponent_width", "mantissa_width"), [(4, 4), (2, -1), (1, 7)])
def test_refuses_mantissas(exponent_width, mantissa_width):
    sentence = (
        f"A float must have a sign, an exponent and a mantissa of 0 or more bits in 8 bits at "
        f"most, not {exponent_width} and {mantissa_width}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        minifloat(exponent_width, mantissa_width)
