"""Codebooks as formats, as slots of a layout, and as a section of the stream."""

import itertools
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import (
    CATALOG,
    CODEBOOKS,
    CodebookFormat,
    CodebookSlot,
    QuantizedMatrix,
    StreamLayout,
    family,
    pack,
    signed_power_terms,
)
from lutra.sim import random_matrix

NF4_LIKE = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)


def _layout(**changes):
    fields = {
        "lanes": 4,
        "width": 8,
        "tile_slices": 2,
        "formats": ("codebook4", "int4", "codebook3"),
        "group_sizes": (8, 16),
    }
    return StreamLayout(**(fields | changes))


# -- formats --------------------------------------------------------------------------------------


def test_a_codebook_is_its_values():
    item = CodebookFormat.of(NF4_LIKE)
    assert (item.name, item.code_width, item.values) == ("codebook4", 4, NF4_LIKE)
    assert item.scale_count == 1
    assert not item.has_zero_point
    assert item.peak == 127
    assert item.weight_table([3]).tolist() == [3 * value for value in NF4_LIKE]
    assert item == CodebookFormat("codebook4", 4, values=NF4_LIKE)
    assert CodebookFormat.of(np.array([0, 1, 2, 3, -4, -3, -2, -1])).values == (
        *range(4),
        *range(-4, 0),
    )


@pytest.mark.parametrize("seed", range(8))
def test_planes_and_terms_add_up(seed):
    rng = np.random.default_rng(seed)
    top = 1 << seed % 7 + 1
    item = CodebookFormat.of(rng.integers(-top, top, (8, 16)[seed % 2]).tolist())
    digits = [plane.coefficient * plane.digits(item.code_width) for plane in item.planes]
    assert np.sum(digits, axis=0).tolist() == list(item.values)
    steps = np.sum([step.values for step in item.term_steps], axis=0)
    assert steps.tolist() == list(item.values)
    assert (
        item.step_count == item.term_count == max(len(signed_power_terms(v)) for v in item.values)
    )
    assert len(item.planes) == item.value_width <= 8


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (range(7), "A codebook must have 8 or 16 entries, not 7"),
        ((), "A codebook must have 8 or 16 entries, not 0"),
        (range(17), "A codebook must have 8 or 16 entries, not 17"),
        ("12345678", "A codebook must be a list of integers, not '12345678'"),
        (5, "A codebook must be a list of integers, not 5"),
        (
            (0, 1, 2, 128, 4, 5, 6, 7),
            "Codebook entries must be integers in -128..127, but entry 3 is 128",
        ),
        (
            (-129, *range(7)),
            "Codebook entries must be integers in -128..127, but entry 0 is -129",
        ),
        ((*range(7), 1.0), "Codebook entries must be integers in -128..127, but entry 7 is 1.0"),
        ((*range(7), True), "Codebook entries must be integers in -128..127, but entry 7 is True"),
        ((*range(7), "x"), "Codebook entries must be integers in -128..127, but entry 7 is 'x'"),
    ],
)
def test_no_codebook(values, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        CodebookFormat.of(values)


def test_name_and_width_go_with_the_length():
    with pytest.raises(ValueError, match=r"^A codebook of 4-bit codes must have 16 entries, not 8"):
        CodebookFormat("codebook4", 4, values=tuple(range(8)))
    with pytest.raises(ValueError, match=r"^A codebook of 3-bit codes is named 'codebook3', not"):
        CodebookFormat("mine", 3, values=tuple(range(8)))
    with pytest.raises(ValueError, match="neither a zero-point nor unused codes"):
        CodebookFormat.of(range(8), zero_point=True)


def test_slots():
    assert list(CODEBOOKS) == ["codebook3", "codebook4"]
    assert CATALOG.keys().isdisjoint(CODEBOOKS)
    for name, width in (("codebook3", 3), ("codebook4", 4)):
        entry = family(name)
        assert (entry.name, entry.code_width, len(entry.members)) == (name, width, 1)
        with pytest.raises(ValueError, match=f"^Format '{name}' has no values of its own; give a"):
            entry.members[0].weight_table([1])


def test_a_slot_is_as_wide_as_any_codebook_it_takes():
    slot = CodebookSlot("codebook3", 3, value_width=5, term_count=2)
    assert slot.peak == 16
    assert [plane.coefficient for plane in slot.planes] == [1, 2, 4, 8, -16]
    assert (slot.step_count, slot.scale_count, slot.has_zero_point) == (2, 1, False)
    assert {(step.base, step.span) for step in slot.term_steps} == {(0, 5)}
    for value in range(-16, 16):
        assert all(term.exponent < 5 for term in signed_power_terms(value))
        assert CodebookFormat.of([value] * 8).peak <= slot.peak


def test_a_layer_has_one_codebook_of_a_width():
    first, second = CodebookFormat.of(range(8)), CodebookFormat.of(range(1, 9))
    random_matrix([first, CodebookFormat.of(NF4_LIKE)], 3, 20, 8, seed=1)
    with pytest.raises(
        ValueError, match=r"^A layer has at most one codebook of 3-bit codes, not 2"
    ):
        random_matrix([first, second], 3, 20, 8, seed=1)
    matrix = random_matrix([first], 3, 20, 8, seed=1)
    with pytest.raises(ValueError, match=r"^Format 'codebook4' has no values of its own; give a c"):
        replace(matrix, members=family("codebook4").members)


@pytest.mark.parametrize("terms", [0, 1, 2, 3])
def test_random_codebooks_fit(terms):
    layout = _layout(codebook_width=7, codebook_terms=terms)
    values = [
        value
        for seed in range(20)
        for item in random_matrix(layout.members, 2, 16, 8, seed=seed).members
        if isinstance(item, CodebookFormat)
        for value in item.values
    ]
    assert (min(values), max(values)) == ((-64, 63), (-64, 64 - 32), (-64, 63), (-64, 63))[terms]
    assert max(len(signed_power_terms(value)) for value in values) == (terms or 4)


# -- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "bits", "beats"),
    [
        ({"formats": ("int4",)}, 0, 0),
        ({"formats": ("codebook3",)}, 8 * 8, 2),
        ({"formats": ("codebook4",), "codebook_width": 2}, 16 * 2, 1),
        ({"codebook_terms": 2}, 24 * (8 + 2 * 5), 14),
        (
            {"codebook_width": 5, "codebook_terms": 1, "width": 64, "group_sizes": ()},
            24 * (5 + 4),
            1,
        ),
        ({"codebook_width": 7, "codebook_terms": 4}, 24 * (7 + 4 * 4), 18),
    ],
)
def test_section_length(changes, bits, beats):
    layout = _layout(**changes)
    assert (layout.codebook_bits, layout.codebook_beats) == (bits, beats)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"codebook_width": 1}, "codebook_width must be an integer in 2..8, not 1"),
        ({"codebook_width": 9}, "codebook_width must be an integer in 2..8, not 9"),
        ({"codebook_terms": -1}, "codebook_terms must be an integer in 0..4, not -1"),
        ({"codebook_terms": 5}, "codebook_terms must be an integer in 0..4, not 5"),
    ],
)
def test_limits(changes, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        _layout(**changes)


def test_fingerprint_covers_the_slots():
    choices = [
        {"formats": formats, "codebook_width": width, "codebook_terms": terms}
        for formats, width, terms in itertools.product(
            [("codebook3",), ("codebook4",), ("codebook4", "codebook3")], [7, 8], [0, 1]
        )
    ]
    assert len({_layout(**changes).fingerprint for changes in choices}) == len(choices)
    text = b"4 8 2 1 16 8\n4 codebook 8 0\n4 0 1,aaaa,0,0 2,cccc,0,0 4,f0f0,0,0 -8,ff00,0,0\n"
    text += b"3 codebook 8 0\n"
    assert _layout().fingerprint == zlib.crc32(text)


@pytest.mark.parametrize("name", CATALOG)
def test_other_layouts_are_as_they_were(name):
    plain = _layout(formats=(name,))
    other = _layout(formats=(name,), codebook_width=3, codebook_terms=2)
    assert plain.fingerprint == other.fingerprint
    matrix = random_matrix(name, 9, 40, 16, seed=1)
    assert np.array_equal(pack(matrix, plain).beats, pack(matrix, other).beats)


# -- packer ---------------------------------------------------------------------------------------


def _section(matrix: QuantizedMatrix, layout: StreamLayout) -> int:
    """Return the bits of the section, having checked that the rest of its beats is zeros."""
    first = layout.layer_header_beats
    beats = pack(matrix, layout).beats[first : first + layout.codebook_beats]
    bits = int.from_bytes(beats.tobytes(), "little")
    assert bits >> layout.codebook_bits == 0
    return bits


@pytest.mark.parametrize("terms", range(5))
@pytest.mark.parametrize("width", [5, 8])
def test_section(width, terms):
    """Entries of all slots in order of ids, read back by what the page of the stream says."""
    layout = _layout(codebook_width=width, codebook_terms=terms)
    matrix = random_matrix(layout.members, 5, 20, 8, seed=width + terms)
    bits = _section(matrix, layout)

    def take(count):
        nonlocal bits
        value, bits = bits & (1 << count) - 1, bits >> count
        return value

    for name in ("codebook4", "codebook3"):
        (item,) = (item for item in matrix.members if item.name == name)
        assert isinstance(item, CodebookFormat)
        for value in item.values:
            read = take(width)
            assert read - (read >> width - 1 << width) == value
            total = 0
            for _ in range(terms):
                size, negative = take(3 if width == 5 else 4), take(1)
                assert size or not negative
                total += (1 << size - 1 if size else 0) * (-1 if negative else 1)
            assert total == (value if terms else 0)
    assert bits == 0


def test_no_codebook_is_zeros():
    """A layer of other formats, or of one codebook of two."""
    layout = _layout(codebook_terms=1)
    assert _section(random_matrix("int4", 5, 20, 8, seed=1), layout) == 0
    only = random_matrix([CodebookFormat.of([1] * 8)], 5, 20, 8, seed=1)
    assert _section(only, layout) & (1 << 16 * 13) - 1 == 0


@pytest.mark.parametrize(
    ("changes", "values", "sentence"),
    [
        (
            {"codebook_terms": 2},
            NF4_LIKE,
            (
                "Codebook entry 1 is -88, which needs 3 signed powers of two; "
                "the configuration's codebook_terms is 2"
            ),
        ),
        (
            {"codebook_width": 7},
            NF4_LIKE,
            "Codebook entry 0 is -127, which needs 8 bits; the configuration's codebook_width is 7",
        ),
        (
            {"codebook_width": 4},
            (*range(7), 8),
            "Codebook entry 7 is 8, which needs 5 bits; the configuration's codebook_width is 4",
        ),
        (
            {"formats": ("int4", "codebook3")},
            NF4_LIKE,
            "Format 'codebook4' is not one that the configuration decodes: int4, codebook3",
        ),
    ],
)
def test_refused(changes, values, sentence):
    matrix = random_matrix([CodebookFormat.of(values)], 3, 20, 8, seed=1)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        pack(matrix, _layout(**changes))


def test_at_the_limits():
    layout = _layout(codebook_width=4, codebook_terms=2)
    pack(random_matrix([CodebookFormat.of([-8, 7, 3, -5, 6, 0, -7, 1])], 3, 20, 8, seed=1), layout)
    layout = _layout(codebook_terms=4)
    pack(random_matrix([CodebookFormat.of([85] * 16)], 3, 20, 8, seed=1), layout)
