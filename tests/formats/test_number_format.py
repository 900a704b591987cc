"""What engines ask of a format: digits, peaks, tables of integer weights."""

import itertools
import re

import numpy as np
import pytest

from lutra.formats import (
    CATALOG,
    BinaryCodingFormat,
    FreeFormat,
    NumberFormat,
    Plane,
    ValueFormat,
    member,
)

MEMBERS = list(dict.fromkeys(item for entry in CATALOG.values() for item in entry.members))


def _name(item):
    return item.name


@pytest.mark.parametrize("bipolar", [False, True])
def test_digits(bipolar):
    plane = Plane(0b0110, 3, bipolar=bipolar)
    low = -1 if bipolar else 0
    assert plane.digits(2).tolist() == [low, 1, 1, low]


@pytest.mark.parametrize("item", [x for x in MEMBERS if isinstance(x, ValueFormat)], ids=_name)
def test_weight_table_of_values(item):
    scales = np.array([[1], [0], [-3], [65535]])
    table = item.weight_table(scales)
    assert table.dtype == np.int64
    assert table.tolist() == [
        [scale * value for value in item.values] for scale in (1, 0, -3, 65535)
    ]
    assert item.scale_count == 1


@pytest.mark.parametrize(
    "item", [x for x in MEMBERS if isinstance(x, BinaryCodingFormat)], ids=_name
)
def test_weight_table_of_signs(item):
    rng = np.random.default_rng(item.code_width)
    for scales in rng.integers(-255, 256, (5, item.scale_count)).tolist():
        for code, weight in enumerate(item.weight_table(scales).tolist()):
            signs = [1 if code >> bit & 1 else -1 for bit in range(item.code_width)]
            offset = scales[item.code_width] if item.offset else 0
            assert weight == sum(a * b for a, b in zip(scales, signs, strict=False)) + offset


@pytest.mark.parametrize("item", MEMBERS, ids=_name)
def test_peak(item):
    """The bound of the accumulator is reached and not passed, whatever scales of ±1 and zeros."""
    largest = 0
    # Of free formats each code has one scale, so that all may have the same sign.
    repeat = 1 if isinstance(item, FreeFormat) else item.scale_count
    for signs in itertools.product((-1, 1), repeat=repeat):
        table = item.weight_table(signs * (item.scale_count // repeat))
        zeros = table if item.has_zero_point else [0]
        largest = max(largest, *(int(np.abs(table - zero).max()) for zero in zeros))
    assert item.peak == largest


def test_has_zero_point():
    assert member("int4_asym").has_zero_point
    assert not member("int4").has_zero_point
    assert not member("bcq4_asym").has_zero_point


@pytest.mark.parametrize("width", [0, 9, -1])
def test_refuses_code_width(width):
    sentence = f"Code width of format 'odd' must be in 1..8, not {width}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        BinaryCodingFormat("odd", width)


def test_refuses_short_table():
    sentence = "Format 'odd' must list 8 values for its 3-bit codes, not 7"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ValueFormat("odd", 3, tuple(range(7)))


def test_refuses_coefficients_beside_a_zero_point():
    sentence = (
        "Format 'odd' must not have both coefficients and a zero-point: the stream has "
        "zero-points as they are"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ValueFormat("odd", 2, (0, 1, 2, 3), zero_point=True, coefficients=(1, 2))


def test_base_has_no_planes():
    sentence = "NumberFormat must define planes"
    with pytest.raises(NotImplementedError, match=f"^{re.escape(sentence)}$"):
        _ = NumberFormat("odd", 3).planes
