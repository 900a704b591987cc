"""Codes as the weight stream numbers them: each once, and planes that are bits of the numbers."""

import re

import numpy as np
import pytest

from lutra.formats import (
    CATALOG,
    FreeFormat,
    QuantizedMatrix,
    StreamLayout,
    ValueFormat,
    member,
    pack,
)
from lutra.formats.stream_codes import assign_stream_codes

MEMBERS = list(dict.fromkeys(item for entry in CATALOG.values() for item in entry.members))
RENUMBERED = [item for item in MEMBERS if isinstance(item, ValueFormat) and item.coefficients]


def _name(item):
    return item.name


def _are_integers(item):
    """Whether the values are as many neighbours, whose bits are those of the code."""
    low = min(item.values)
    return sorted(item.values) == list(range(low, low + len(item.values)))


def _sum(coefficients, digits):
    return sum(c for index, c in enumerate(coefficients) if digits >> index & 1)


@pytest.mark.parametrize("item", MEMBERS, ids=_name)
def test_every_number_once(item):
    numbers = item.stream_codes
    assert sorted(numbers) == list(range(1 << item.code_width))
    renumbered = list(numbers) != sorted(numbers)
    assert renumbered == item.name.startswith("bitmod")


@pytest.mark.parametrize("item", RENUMBERED, ids=_name)
def test_digits_add_up(item):
    numbers, digits = assign_stream_codes(item.values, item.coefficients, item.code_width)
    assert item.stream_codes == numbers
    for value, number, each in zip(item.values, numbers, digits, strict=True):
        assert _sum(item.coefficients, each) == value
        assert each % (1 << item.code_width) == number
    assert [plane.coefficient for plane in item.planes] == list(item.coefficients)


@pytest.mark.parametrize("item", MEMBERS, ids=_name)
def test_first_planes_need_no_decoder(item):
    """All are bits of the number, but those beyond the code's width, of what is numbered so."""
    if isinstance(item, FreeFormat) or (
        isinstance(item, ValueFormat) and not item.coefficients and not _are_integers(item)
    ):
        return
    for bit, plane in enumerate(item.planes[: item.code_width]):
        expected = sum((number >> bit & 1) << number for number in range(1 << item.code_width))
        assert item.stream_truth(plane.truth) == expected, f"plane {bit}"


@pytest.mark.parametrize("name", ["bitmod3_{}3", "bitmod3_{}6", "bitmod4_{}5", "bitmod4_{}8"])
def test_opposite_special_values_have_opposite_coefficients(name):
    """All else is the same, so that a decoder has no more for them."""
    item, other = (member(name.format(sign)) for sign in "pm")
    assert len(item.planes) == len(other.planes)
    for one, opposite in zip(item.planes, other.planes, strict=True):
        assert one.coefficient == -opposite.coefficient
        assert item.stream_truth(one.truth) == other.stream_truth(opposite.truth)


@pytest.mark.parametrize("item", MEMBERS, ids=_name)
def test_stream_truth(item):
    """Random tables, rearranged code by code."""
    rng = np.random.default_rng(item.code_width)
    for bits in rng.integers(0, 2, (5, 1 << item.code_width)):
        truth = sum(int(bit) << code for code, bit in enumerate(bits))
        streamed = item.stream_truth(truth)
        assert [streamed >> number & 1 for number in item.stream_codes] == bits.tolist()


def test_codes_make_room_for_each_other():
    """Code 0 would take number 0 alone; code 1 has no other, so code 0 moves on."""
    numbers, digits = assign_stream_codes((1, 0), (1, 1), 1)
    assert (numbers, digits) == ((1, 0), (1, 0))
    # 1 is 01 or 10; 0 is 00 alone, 3 is 11 with number 1 alone: 1 must be 10, of number 0.
    numbers, digits = assign_stream_codes((1, 2), (1, 1), 1)
    assert (numbers, digits) == ((0, 1), (2, 3))


def test_there_is_no_numbering():
    sentence = "Coefficients 1, 2 do not number the codes of 0, 1, 2, 4: nothing is left for 4"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        assign_stream_codes((0, 1, 2, 4), (1, 2), 2)
    sentence = "Coefficients 1, 2 do not number the codes of 0, 1, 1, 2: nothing is left for 1"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        assign_stream_codes((0, 1, 1, 2), (1, 2), 2)


def test_formats_of_a_user():
    """A table with coefficients of its own; without, codes are streamed as they are."""
    values = (0, 1, -1, 2)
    item = ValueFormat("odd", 2, values, coefficients=(1, -2, 4))
    assert item.stream_codes == (0, 1, 3, 2)
    assert item.weight_table([1]).tolist() == list(values)
    assert ValueFormat("odd", 2, values).stream_codes == (0, 1, 2, 3)


def test_the_stream_has_the_numbers():
    """The words of a group's codes, bit by bit."""
    layout = StreamLayout(lanes=4, width=16, tile_slices=1, formats=("bitmod4",), group_sizes=(16,))
    for number, item in enumerate(layout.members):
        codes = np.arange(16, dtype=np.uint8)[None].repeat(4, axis=0)
        matrix = QuantizedMatrix(
            members=layout.members,
            group_size=16,
            codes=codes,
            format_ids=np.full((4, 1), number, dtype=np.uint8),
            scales=np.ones((4, 1, 1), dtype=np.int32),
            zeros=np.zeros((4, 1), dtype=np.uint8),
            row_scales=np.ones(4, dtype=np.float32),
        )
        words = pack(matrix, layout).beats.view("<u2")[-5:-1, 0]
        bits = words[:, None] >> np.arange(16) & 1
        numbers = (bits << np.arange(4)[:, None]).sum(axis=0).tolist()
        assert numbers == list(item.stream_codes)
