"""Every format of the catalogue: its values, and the planes and terms that stand for them."""

import re
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import CATALOG, CODEBOOKS, BinaryCodingFormat, ValueFormat, family, member

MEMBERS = [item for entry in CATALOG.values() for item in entry.members]
VALUE_FORMATS = [item for item in MEMBERS if isinstance(item, ValueFormat)]
BINARY_FORMATS = [item for item in MEMBERS if isinstance(item, BinaryCodingFormat)]


def _name(item):
    return item.name


def _as_integers(values, grid):
    """Values of a page as steps of a grid."""
    steps = [Fraction(value) / Fraction(grid) for value in values]
    assert all(step.denominator == 1 for step in steps)
    return sorted(int(step) for step in steps)


def test_names():
    widths = range(2, 9)
    assert set(CATALOG) == {
        *(f"int{width}" for width in widths),
        *(f"int{width}_asym" for width in widths),
        "ternary",
        *(f"bcq{width}" for width in range(1, 5)),
        *(f"bcq{width}_asym" for width in range(1, 5)),
        "float4_e2m1",
        "bitmod3",
        "bitmod4",
    }
    assert all(name == entry.name for name, entry in CATALOG.items())
    names = [item.name for item in MEMBERS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("entry", CATALOG.values(), ids=_name)
def test_family(entry):
    assert {item.code_width for item in entry.members} == {entry.code_width}
    assert entry.summary
    assert family(entry.name) is entry
    for item in entry.members:
        assert member(item.name) is item


@pytest.mark.parametrize("item", VALUE_FORMATS, ids=_name)
def test_planes_rebuild_every_value(item):
    assert len(item.values) == 1 << item.code_width
    for code, value in enumerate(item.values):
        total = 0
        for plane in item.planes:
            assert plane.scale_index == 0
            digit = plane.truth >> code & 1
            total += plane.coefficient * (2 * digit - 1 if plane.bipolar else digit)
        assert total == value, f"code {code} of {item.name}"
    assert all(plane.truth >> (1 << item.code_width) == 0 for plane in item.planes)


@pytest.mark.parametrize("item", BINARY_FORMATS, ids=_name)
def test_binary_planes_are_the_code_bits(item):
    planes = {plane.scale_index: plane for plane in item.planes}
    assert sorted(planes) == list(range(item.scale_count))
    assert item.scale_count == item.code_width + item.offset
    assert not item.has_zero_point
    for index, plane in planes.items():
        assert plane.bipolar
        assert plane.coefficient == 1
        for code in range(1 << item.code_width):
            sign = 1 if index == item.code_width or code >> index & 1 else -1
            assert 2 * (plane.truth >> code & 1) - 1 == sign


@pytest.mark.parametrize("item", VALUE_FORMATS, ids=_name)
def test_terms_rebuild_every_value(item):
    assert len(item.terms) == len(item.values)
    for value, terms in zip(item.values, item.terms, strict=True):
        assert sum(term.sign * 2**term.exponent for term in terms) == value
        assert {term.sign for term in terms} <= {-1, 1}


@pytest.mark.parametrize("item", MEMBERS, ids=_name)
def test_plane_count(item):
    if isinstance(item, BinaryCodingFormat):
        expected = item.code_width + item.offset
    elif item.name.startswith("bitmod3"):
        expected = 4
    elif item.name.startswith(("bitmod4", "float4")):
        expected = 5
    else:
        expected = item.code_width  # int and ternary keep their code bits
    assert len(item.planes) == expected


@pytest.mark.parametrize("width", range(2, 9))
def test_integers_keep_their_code_bits(width):
    bits = [sum((code >> bit & 1) << code for code in range(1 << width)) for bit in range(width)]
    for name, sign in ((f"int{width}", -1), (f"int{width}_asym", 1)):
        planes = member(name).planes
        assert [plane.truth for plane in planes] == bits
        weights = [*(1 << bit for bit in range(width - 1)), sign << (width - 1)]
        assert [plane.coefficient for plane in planes] == weights


@pytest.mark.parametrize("item", VALUE_FORMATS, ids=_name)
def test_term_count(item):
    most = max(len(terms) for terms in item.terms)
    if item.name.startswith(("bitmod", "float4")):
        assert most <= 2
    if not item.has_zero_point:
        # Booth's radix 4 takes one digit for two bits.
        assert most <= -(-item.code_width // 2)


@pytest.mark.parametrize("width", range(2, 9))
def test_integers(width):
    signed, unsigned = member(f"int{width}"), member(f"int{width}_asym")
    assert isinstance(signed, ValueFormat)
    assert isinstance(unsigned, ValueFormat)
    half = 1 << (width - 1)
    for code in range(1 << width):
        assert signed.values[code] == (code if code < half else code - 2 * half)
        assert unsigned.values[code] == code
    assert signed.unused == (half,)
    assert not signed.has_zero_point
    assert unsigned.has_zero_point
    assert not unsigned.unused


def test_ternary():
    item = member("ternary")
    assert isinstance(item, ValueFormat)
    assert [item.values[code] for code in (0, 1, 3)] == [0, 1, -1]
    assert item.unused == (2,)
    assert item.code_width == 2


def test_float4_is_that_of_ml_dtypes():
    item = member("float4_e2m1")
    assert isinstance(item, ValueFormat)
    numbers = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert [value * 2.0**item.grid_exponent for value in item.values] == numbers.tolist()


@pytest.mark.parametrize("width", [2, 4])
def test_integers_are_those_of_ml_dtypes(width):
    item = member(f"int{width}")
    assert isinstance(item, ValueFormat)
    theirs = np.array(item.values).astype(getattr(ml_dtypes, f"int{width}"))
    assert theirs.astype(np.int64).tolist() == list(item.values)
    assert len(set(theirs.astype(np.int64).tolist())) == 1 << width
    codes = theirs.view(np.uint8) & ((1 << width) - 1)
    assert codes.tolist() == list(range(1 << width))


# Chen et al., BitMoD, HPCA 2025, table IV; the grid of FP4 is a half.
BASIC = {
    3: (1, (0, 1, 2, 4, -1, -2, -4)),
    4: (0.5, (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6)),
}


@pytest.mark.parametrize(
    ("width", "name", "special"),
    [
        (3, "bitmod3_p3", 3),
        (3, "bitmod3_m3", -3),
        (3, "bitmod3_p6", 6),
        (3, "bitmod3_m6", -6),
        (4, "bitmod4_p5", 5),
        (4, "bitmod4_m5", -5),
        (4, "bitmod4_p8", 8),
        (4, "bitmod4_m8", -8),
    ],
)
def test_bitmod_tables(width, name, special):
    grid, basic = BASIC[width]
    item = member(name)
    assert isinstance(item, ValueFormat)
    assert 2.0**item.grid_exponent == grid
    assert sorted(item.values) == _as_integers((*basic, special), grid)
    assert item.values[1 << (width - 1)] == special / grid  # the code that would be -0
    for code in range(1, 1 << (width - 1)):  # sign in the top bit
        assert item.values[code] > 0
        assert item.values[code | 1 << (width - 1)] == -item.values[code]


def test_bitmod_order_settles_ties():
    names = [item.name for item in family("bitmod3").members + family("bitmod4").members]
    specials = [("p3", "m3", "p6", "m6"), ("p5", "m5", "p8", "m8")]
    assert names == [f"bitmod{3 + i}_{s}" for i, group in enumerate(specials) for s in group]


@pytest.mark.parametrize(("look_up", "known"), [(family, [*CATALOG, *CODEBOOKS]), (member, None)])
def test_unknown_name(look_up, known):
    names = known or [item.name for item in MEMBERS]
    sentence = re.escape(f"Unknown format 'int9'; known formats: {', '.join(names)}")
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        look_up("int9")
