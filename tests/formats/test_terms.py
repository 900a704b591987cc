"""Signed powers of two: right, fewest, unique."""

import itertools

import pytest

from lutra.formats import Term, signed_power_terms


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
