"""Every format of the catalogue: its values, and the planes and terms that stand for them."""

import re
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import (
    ALIASES,
    CATALOG,
    CODEBOOKS,
    AffineFormat,
    BinaryCodingFormat,
    FreeFormat,
    ValueFormat,
    family,
    member,
)

MEMBERS = list(dict.fromkeys(item for entry in CATALOG.values() for item in entry.members))
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
        # A sign, one to five exponent bits, and the rest of the mantissa.
        *("float3_e2m0", "float3_e1m1"),
        *("float4_e3m0", "float4_e2m1", "float4_e1m2"),
        *("float5_e4m0", "float5_e3m1", "float5_e2m2", "float5_e1m3"),
        *("float6_e5m0", "float6_e4m1", "float6_e3m2", "float6_e2m3", "float6_e1m4"),
        *("float7_e5m1", "float7_e4m2", "float7_e3m3", "float7_e2m4", "float7_e1m5"),
        *("float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e2m5", "float8_e1m6"),
        *("float8_e4m3fn", "float8_e5m2_ieee"),
        *("bitmod3", "bitmod4", "razer4"),
        *("flint4", "ant4", "power3", "power4", "nf4", "float4_bnb", "iq4_nl"),
        *(f"int{width}_affine" for width in widths),
        *("free2", "free3", "free4"),
    }
    assert all(name == entry.name for name, entry in CATALOG.items())
    names = [item.name for item in MEMBERS]
    assert len(set(names)) == len(names)


def test_aliases():
    assert ALIASES == {
        "pot3": "float3_e2m0",
        "pot4": "float4_e3m0",
        "fp3": "float3_e2m0",
        "fp4": "float4_e2m1",
        "squares3": "power3",
        "squares4": "power4",
    }
    assert ALIASES.keys().isdisjoint(CATALOG | CODEBOOKS)
    for alias, name in ALIASES.items():
        assert family(alias) is CATALOG[name]


@pytest.mark.parametrize("entry", CATALOG.values(), ids=_name)
def test_family(entry):
    assert {item.code_width for item in entry.members} == {entry.code_width}
    assert entry.summary
    assert family(entry.name) is entry
    for item in entry.members:
        assert member(item.name) == item


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


def _value_bits(values):
    """Bits that hold every value: two's complement, or none for the sign where all are positive."""
    magnitudes = [value if value >= 0 else -value - 1 for value in values]
    return max(magnitudes).bit_length() + (min(values) < 0)


@pytest.mark.parametrize("item", MEMBERS, ids=_name)
def test_plane_count(item):
    """One for each bit of the values, or of scales; special values make do with one more."""
    if isinstance(item, BinaryCodingFormat):
        expected = item.code_width + item.offset
    elif isinstance(item, AffineFormat):
        expected = item.code_width + 1
    elif isinstance(item, FreeFormat):
        expected = 1 << item.code_width
    elif item.name.startswith("bitmod") or item.name == "power3":
        expected = item.code_width + 1
    else:
        expected = _value_bits(item.values)
    assert len(item.planes) == expected


@pytest.mark.parametrize("item", VALUE_FORMATS, ids=_name)
def test_plane_count_is_within_bounds(item):
    """No fewer planes than tell the values apart; no more than the values have bits."""
    least = (len(set(item.values)) - 1).bit_length()
    assert least <= len(item.planes) <= max(_value_bits(item.values), item.code_width)


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
    """Significands decide it: of n bits, no two neighbours of n + 1 signed digits are both set."""
    bits = max((abs(v) // (v & -v)).bit_length() for v in item.values if v)
    most = max(len(terms) for terms in item.terms)
    assert most <= bits // 2 + 1
    if item.name.startswith(("bitmod", "razer", "float4", "flint")):
        assert most <= 2
    if item.name.startswith(("int", "ternary")) and not item.has_zero_point:
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


# Dettmers et al., QLoRA, NeurIPS 2023, appendix E: the sixteen numbers of NF4.
NF4 = """-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453 -0.28444138169288635
-0.18477343022823334 -0.09105003625154495 0.0 0.07958029955625534 0.16093020141124725
0.24611230194568634 0.33791524171829224 0.44070982933044434 0.5626170039176941 0.7229568362236023
1.0"""


def test_nf4():
    """Every number to the nearest step of 1/127; no two share one, the ends are exact."""
    item = member("nf4")
    assert isinstance(item, ValueFormat)
    assert item.grid_exponent == 0
    numbers = [float(number) for number in NF4.split()]
    assert max(abs(v / 127 - n) for v, n in zip(item.values, numbers, strict=True)) < 0.5 / 127
    assert list(item.values) == sorted(set(item.values))
    assert (item.values[0], item.values[7], item.values[15]) == (-127, 0, 127)


def test_fp4_of_bitsandbytes():
    """Codes 0 to 7 of its table; the sign is the top bit."""
    item = member("float4_bnb")
    assert isinstance(item, ValueFormat)
    numbers = ["0", "1/192", "2/3", "1", "1/3", "1/2", "1/6", "1/4"]
    positive = [int(192 * Fraction(number)) for number in numbers]
    assert list(item.values) == positive + [-value for value in positive]


def test_table_of_iq4():
    item = member("iq4_nl")
    assert isinstance(item, ValueFormat)
    negative, positive = item.values[:8], item.values[8:]
    assert negative == (-127, -104, -83, -65, -49, -35, -22, -10)
    assert positive == (1, 13, 25, 38, 53, 69, 89, 113)


@pytest.mark.parametrize("width", [3, 4])
def test_squares(width):
    item = member(f"power{width}")
    assert isinstance(item, ValueFormat)
    half = 1 << (width - 1)
    assert list(item.values) == [q * q for q in range(half)] + [-q * q for q in range(half)]


def test_flint():
    """Guo et al., ANT, MICRO 2022: 4-bit flint as BitMoD's code lists it; its codes are ours."""
    item = member("flint4")
    assert isinstance(item, ValueFormat)
    magnitudes = [0, 1, 2, 3, 4, 6, 8, 16]
    assert list(item.values) == magnitudes + [-magnitude for magnitude in magnitudes]


def test_ant_chooses_among_three():
    assert [item.name for item in family("ant4").members] == ["int4", "flint4", "float4_e3m0"]
    assert family("ant4").members[0] == member("int4")


def test_razer_is_e2m1_with_a_special_value():
    members = family("razer4").members
    wanted = {"razer4_p2_5": 2.5, "razer4_m2_5": -2.5, "bitmod4_p5": 5, "bitmod4_m5": -5,
              "bitmod4_p8": 8, "bitmod4_m8": -8}  # fmt: skip
    assert [item.name for item in members] == list(wanted)
    plain = member("float4_e2m1")
    assert isinstance(plain, ValueFormat)
    for item in members:
        assert isinstance(item, ValueFormat)
        expected = [value / 2 for value in plain.values]
        expected[8] = wanted[item.name]
        assert [value * 2.0**item.grid_exponent for value in item.values] == expected


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
    sentence = re.escape(
        f"Unknown format 'int9'; known formats: {', '.join(names[:8])}, … of {len(names)}, which "
        f"`lutra formats` lists; closest to it: "
    )
    with pytest.raises(ValueError, match=f"^{sentence}int[2-8], int[2-8], int[2-8]$"):
        look_up("int9")


def test_unknown_name_like_a_block_format():
    with pytest.raises(ValueError, match=r"; closest to it: mxfp4, mxfp6_e3m2, mxfp6_e2m3$"):
        family("mxfp6")


def test_block_formats_are_no_families():
    sentence = "'nvfp4' is a block format, which only quantisers take; its numbers are those of"
    with pytest.raises(ValueError, match=f"^{sentence} 'float4_e2m1'$"):
        family("nvfp4")


def test_unknown_name_like_no_other():
    with pytest.raises(ValueError, match=r"which `lutra formats` lists$"):
        family("zzzzzz")
