"""The search for planes: exact for any table, as short as it can be, the same every time."""

import itertools
import random

import pytest

from lutra.formats import find_planes


def _rebuild(planes, code_count):
    return tuple(
        sum(coefficient * (truth >> code & 1) for coefficient, truth in planes)
        for code in range(code_count)
    )


def _some_list_covers(values, length, reach):
    """Try every multiset of coefficients by brute force."""
    for coefficients in itertools.combinations_with_replacement(range(-reach, reach + 1), length):
        sums = {0}
        for coefficient in coefficients:
            sums |= {total + coefficient for total in sums}
        if set(values) <= sums:
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_shortest_for_small_tables(seed):
    rng = random.Random(seed)
    span = rng.randrange(1, 9)
    values = tuple(rng.randint(-span, span) for _ in range(rng.choice([2, 4, 4, 8])))
    planes = find_planes(values)
    assert _rebuild(planes, len(values)) == values
    reach = 2 * (max(*values, 0) - min(*values, 0))
    assert len(planes) == 1 or not _some_list_covers(values, len(planes) - 1, reach), values


@pytest.mark.parametrize("seed", range(12))
def test_any_codebook(seed):
    rng = random.Random(seed)
    width = rng.randrange(1, 9)
    limit = rng.choice([3, 20, 127, 1000])
    values = tuple(rng.randint(-limit, limit) for _ in range(1 << width))
    planes = find_planes(values)
    assert _rebuild(planes, len(values)) == values
    # Two's complement holds every value, so no list is longer than that.
    bits = max(max(values).bit_length(), (min(values) + 1).bit_length()) + 1
    assert len(planes) <= bits


@pytest.mark.parametrize(
    ("values", "planes"),
    [
        ((0, 0), ((1, 0b00),)),
        ((0, 1), ((1, 0b10),)),
        ((5, 5), ((5, 0b11),)),
        ((0, -3), ((-3, 0b10),)),
        ((0, 1, 2, 3), ((1, 0b1010), (2, 0b1100))),
        ((0, 1, -2, -1), ((1, 0b1010), (-2, 0b1100))),
    ],
)
def test_known_tables(values, planes):
    assert find_planes(values) == planes


def test_deterministic():
    values = (0, 1, 2, 3, 4, 6, 8, 12, -10, -1, -2, -3, -4, -6, -8, -12)
    first = find_planes(values)
    find_planes.cache_clear()
    assert find_planes(values) == first
