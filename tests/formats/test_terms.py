"""Signed powers of two: right, fewest, unique."""

import itertools

import numpy as np
import pytest

from lutra.formats import (
    CATALOG,
    BinaryCodingFormat,
    Term,
    ValueFormat,
    find_term_steps,
    signed_power_terms,
)

MEMBERS = list(dict.fromkeys(item for family in CATALOG.values() for item in family.members))


def _fewest_terms(limit, exponents):
    """Length of the shortest sum of signed powers for each integer, by breadth first."""
    powers = [sign << exponent for exponent in range(exponents) for sign in (1, -1)]
    fewest = {0: 0}
    frontier = [0]
    while frontier:
        following = []
        for value in frontier:
            for power in powers:
                total = value + power
                if abs(total) <= limit and total not in fewest:
                    fewest[total] = fewest[value] + 1
                    following.append(total)
        frontier = following
    return fewest


def test_fewest():
    fewest = _fewest_terms(1024, 10)
    for value in range(-300, 301):
        assert len(signed_power_terms(value)) == fewest[value], value


@pytest.mark.parametrize("limit", [300])
def test_non_adjacent_and_exact(limit):
    for value in range(-limit, limit + 1):
        terms = signed_power_terms(value)
        assert sum(term.value for term in terms) == value
        exponents = [term.exponent for term in terms]
        assert all(a - b >= 2 for a, b in itertools.pairwise(exponents))
        assert all(term.sign in (-1, 1) for term in terms)


@pytest.mark.parametrize(
    ("value", "terms"),
    [
        (0, ()),
        (1, (Term(1, 0),)),
        (-4, (Term(-1, 2),)),
        (3, (Term(1, 2), Term(-1, 0))),
        (-7, (Term(-1, 3), Term(1, 0))),
        (12, (Term(1, 4), Term(-1, 2))),
    ],
)
def test_known_values(value, terms):
    assert signed_power_terms(value) == terms


def _sums(item, scales):
    """Weight of every code as the steps have it."""
    total = np.zeros(1 << item.code_width, dtype=np.int64)
    for step in item.term_steps:
        assert all(term is None or term.sign in (-1, 1) for term in step.terms)
        total += scales[step.scale_index] * np.array(step.values, dtype=np.int64)
    return total


@pytest.mark.parametrize("item", MEMBERS, ids=lambda item: item.name)
def test_steps_rebuild_every_value(item):
    """Every scale by itself; beside a zero-point only differences of values matter."""
    for scales in np.eye(item.scale_count, dtype=np.int64):
        difference = _sums(item, scales) - item.weight_table(scales)
        assert len(set(difference)) == 1, difference
        assert item.has_zero_point or not difference.any(), difference


@pytest.mark.parametrize("item", MEMBERS, ids=lambda item: item.name)
def test_step_count(item):
    """Booth's radix 4 takes one step for two bits; floats of few bits take two terms."""
    if isinstance(item, BinaryCodingFormat):
        assert item.step_count == item.code_width + item.offset
        assert [step.scale_index for step in item.term_steps] == list(range(item.step_count))
    elif item.scale_count > 1:
        assert item.step_count == len(item.planes)
        assert [step.scale_index for step in item.term_steps] == [
            plane.scale_index for plane in item.planes
        ]
    elif item.name.startswith(("int", "ternary")):
        assert item.step_count == -(-item.code_width // 2)
    else:
        # One term for every two bits of the significand; small integers may have fewer.
        assert item.step_count == STEPS.get(item.name, _significand_bits(item) // 2 + 1)


# Tables whose numbers with the most bits have runs of ones, or few ones.
STEPS = {"float4_bnb": 2, "power3": 2, "power4": 3, "nf4": 4, "iq4_nl": 4}


def _significand_bits(item):
    return max((abs(value) // (value & -value)).bit_length() for value in item.values if value)


@pytest.mark.parametrize("item", MEMBERS, ids=lambda item: item.name)
def test_steps_need_few_shifts(item):
    """Terms of a step differ by two places at most: nothing, and three shifts, for a shifter.

    Values that lie farther apart need as many shifts as they have exponents.
    """
    peak = max(map(abs, item.values)) if isinstance(item, ValueFormat) else 1
    if item.name in WIDE or peak > 127:
        assert max(step.span for step in item.term_steps) <= peak.bit_length() + 1
        return
    widest = 3 if item.name.startswith(THREE_SHIFTS) else 2
    assert max(step.span for step in item.term_steps) <= widest
    if item.scale_count == 1:
        assert not any(step.base & 1 for step in item.term_steps)


WIDE = ("float4_e3m0", "float5_e2m2", "float7_e2m4")
THREE_SHIFTS = (
    *("bitmod4", "razer4", "float4_e2m1", "float3_e2m0", "float6_e2m3"),
    *("flint4", "power4"),
)


@pytest.mark.parametrize("width", range(1, 9))
def test_booth_digits(width):
    """The digits of two's complement are functions of three code bits each."""
    half = 1 << (width - 1)
    values = tuple(code - 2 * half if code >= half else code for code in range(2 * half))
    for index, step in enumerate(find_term_steps(values)):
        for code, value in enumerate(step.values):
            below, low, high = (
                (values[code] << 1) >> (2 * index + place) & 1 for place in range(3)
            )
            assert value == (below + low - 2 * high) * 4**index


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ((0,), 1),
        ((0, 0), 1),
        ((0, 1, 2, 4, 8, 16, -32, 1024), 1),
        ((0, 3), 2),
        ((7, -7, 14, 0), 2),
        (tuple(range(0, 768, 3)), 6),
    ],
)
def test_steps_of_other_tables(values, count):
    steps = find_term_steps(values)
    assert len(steps) == count
    assert tuple(map(sum, zip(*(step.values for step in steps), strict=True))) == values


def test_random_tables():
    """Any table has as few steps as its values have terms, or Booth's if those are fewer still."""
    rng = np.random.default_rng(41)
    for _ in range(60):
        peak = 1 << int(rng.integers(1, 12))
        values = tuple(int(v) for v in rng.integers(-peak, peak, 1 << int(rng.integers(1, 5))))
        steps = find_term_steps(values)
        assert tuple(map(sum, zip(*(step.values for step in steps), strict=True))) == values
        assert len(steps) == max(1, *(len(signed_power_terms(value)) for value in values))
