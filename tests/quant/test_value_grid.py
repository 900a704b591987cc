from bisect import bisect_left
from fractions import Fraction

import numpy as np
import pytest

from lutra.formats import CATALOG, ValueFormat, family
from lutra.quant.value_grid import ValueGrid

FORMATS = list(
    dict.fromkeys(
        item
        for entry in CATALOG.values()
        for item in entry.members
        if isinstance(item, ValueFormat)
    )
)


def probes(item):
    """Every quarter step around the values, and the float32 numbers beside each midpoint.

    Of values that lie far apart, only the quarters around them and their midpoints.
    """
    low, high = min(item.values) - 3, max(item.values) + 3
    if high - low <= 4096:
        quarters = (np.arange(4 * low, 4 * high + 1) / 4).astype(np.float32)
    else:
        ordered = np.unique(item.values).astype(np.float64)
        centres = np.concatenate([ordered, (ordered[1:] + ordered[:-1]) / 2])
        quarters = (centres[:, None] + np.arange(-4, 5) / 4).astype(np.float32).ravel()
    halves = quarters[np.float32(2) * quarters == np.rint(np.float32(2) * quarters)]
    probed = [
        quarters,
        np.nextafter(halves, np.float32(np.inf)),
        np.nextafter(halves, np.float32(-np.inf)),
        np.array([-3e38, -1e9, 1e9, 3e38], dtype=np.float32) / 4,
    ]
    return np.concatenate(probed).astype(np.float32)


def nearest_value(x, ordered):
    """Return the nearest of rising values, in exact arithmetic; of two, the lower."""
    above = bisect_left(ordered, float(x))
    beside = ordered[max(above - 1, 0) : above + 1]
    return min(beside, key=lambda value: (abs(Fraction(float(x)) - value), value))


@pytest.mark.parametrize("item", FORMATS, ids=lambda item: item.name)
def test_nearest_value_is_exact_and_ties_go_down(item):
    grid = ValueGrid([item])
    codes = [code for code in range(1 << item.code_width) if code not in item.unused]
    used = sorted({item.values[code] for code in codes})
    x = probes(item)
    slots = grid.slots(x[None].copy(), 0)[0]
    for number, slot in zip(x, slots, strict=True):
        wanted = nearest_value(number, used)
        assert grid.values[slot] == wanted, f"{item.name}: {number!r}"
        assert item.values[grid.codes[slot]] == wanted


@pytest.mark.parametrize("item", FORMATS, ids=lambda item: item.name)
def test_no_value_has_two_codes(item):
    grid = ValueGrid([item])
    made = set(zip(grid.codes.tolist(), grid.values.tolist(), strict=True))
    assert len({code for code, _ in made}) == len({value for _, value in made}) == len(made)


@pytest.mark.parametrize(
    ("name", "levels"),
    [("int2", 3), ("int4", 15), ("int8", 255), ("int4_asym", 16), ("ternary", 3),
     ("float4_e2m1", 15), ("bitmod3", 8), ("bitmod4", 16)],
)  # fmt: skip
def test_levels_in_use(name, levels):
    for item in family(name).members:
        grid = ValueGrid([item])
        assert len(set(grid.codes.tolist())) == levels
        if not name.startswith("bitmod") and not item.has_zero_point:
            assert set(grid.values) == set(-grid.values)


def test_reach_is_the_largest_magnitude_or_the_range():
    names = ("int4", "int4_asym", "ternary", "float4_e2m1")
    grid = ValueGrid([family(name).members[0] for name in names])
    assert grid.reach.tolist() == [7, 15, 1, 12]
    assert ValueGrid(family("bitmod3").members).reach.tolist() == [4, 4, 6, 6]
    assert ValueGrid(family("bitmod4").members).reach.tolist() == [12, 12, 16, 16]


def test_a_zero_point_is_added_without_rounding():
    grid = ValueGrid(family("int8_asym").members)
    below = np.nextafter(np.float32(0.5), np.float32(0))
    x = np.array([[below, 0.5, np.nextafter(np.float32(0.5), np.float32(1))]], dtype=np.float32)
    slots = grid.slots(x, 0, np.full(3, 200, dtype=np.float32))
    assert grid.values[slots].tolist() == [[200, 200, 201]]


def test_groups_of_different_members_in_one_call():
    members = family("bitmod3").members
    x = np.array([[3.0, 3.0, -6.0, 5.5]], dtype=np.float32)
    ids = np.array([0, 1, 3, 2])
    grid = ValueGrid(members)
    assert grid.values[grid.slots(x, ids)].tolist() == [[3, 2, -6, 6]]


def test_binary_coding_is_refused():
    with pytest.raises(ValueError, match="value format"):
        ValueGrid(family("bcq2").members)
