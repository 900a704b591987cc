"""BitMoD against a slow transcription of its algorithm that shares nothing with Lutra's."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

from lutra.formats import ValueFormat, family
from lutra.quant import quantize

# Table IV of the paper on the code scale, typed from it: basic values, special values in the order
# of the authors' lists, and the code of each value (sign, then magnitude; -0 is the special one).
BASIC = {
    "bitmod3": [-4, -2, -1, 0, 1, 2, 4],
    "bitmod4": [-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12],
}
SPECIAL = {"bitmod3": [3, -3, 6, -6], "bitmod4": [10, -10, 16, -16]}
CODED = {  # values by code; None for the special one
    "bitmod3": [0, 1, 2, 4, None, -1, -2, -4],
    "bitmod4": [0, 1, 2, 3, 4, 6, 8, 12, None, -1, -2, -3, -4, -6, -8, -12],
}


class Literal(NamedTuple):
    """What the algorithm chooses for a group, and the errors of all four special values."""

    member: int
    delta: float
    codes: list[int]
    errors: list[float]


def literal_group(weights, name):
    """Quantise one group by algorithm 1, number by number."""
    best_error, errors = math.inf, []
    best = Literal(-1, 0.0, [], errors)
    for index, special in enumerate(SPECIAL[name]):
        values = sorted([*BASIC[name], special])
        largest = np.float32(max(abs(value) for value in values))
        delta = np.float32(max(abs(float(w)) for w in weights)) / largest
        delta = min(max(delta, np.float32(1e-5)), np.float32(1e4))
        middles = [(a + b) / 2 for a, b in pairwise(values)]
        chosen, error = [], 0.0
        for w in weights:
            x = float(w / delta)
            position = 0
            while position < len(middles) and middles[position] < x:
                position += 1
            value = values[position]
            chosen.append(value)
            difference = value * float(delta) - float(w)
            error += difference * difference
        error /= len(weights)
        errors.append(error)
        if error < best_error:
            codes = [CODED[name].index(None if v == special else v) for v in chosen]
            best_error, best = error, Literal(index, float(delta), codes, errors)
    return best


def random_groups(rng, count, length):
    """Return groups of several distributions and magnitudes, also beyond the scale's clamps."""
    groups = np.empty((count, length), dtype=np.float32)
    for group in groups:
        kind = rng.integers(6)
        if kind == 0:
            group[:] = rng.standard_normal(length)
        elif kind == 1:
            group[:] = rng.standard_t(3, length)
        elif kind == 2:
            group[:] = rng.laplace(size=length) + 0.5
        elif kind == 3:
            group[:] = np.where(rng.random(length) < 0.8, 0, rng.standard_normal(length))
        elif kind == 4:
            group[:] = -abs(rng.standard_normal(length))
        else:  # the errors of two members differ by no more than the order of a sum
            group[:] = rng.standard_normal(length)
            group[length // 2 :] = -group[: length - length // 2][::-1]
        group[rng.integers(length)] += 1  # a group of zeros has scale 0, unlike in the paper
        group *= np.float32(10.0 ** rng.uniform(-7, 7))
    return groups


def tied_groups(rng, name, count, length):
    """Return groups with weights on midpoints; half mirror themselves, so that members tie."""
    groups = np.empty((count, length), dtype=np.float32)
    for group in groups:
        largest = max(BASIC[name]) if rng.integers(2) else max(SPECIAL[name])
        # Halves of integers include every midpoint; the scale comes out as a power of two.
        halves = rng.integers(-2 * largest, 2 * largest + 1, length) / 2
        if rng.integers(2):
            half = length // 2
            halves[half : 2 * half] = -halves[:half][:: rng.choice([-1, 1])]
            halves[2 * half :] = 0
        halves[rng.integers(length)] = largest * rng.choice([-1, 1])
        group[:] = halves * 2.0 ** rng.integers(-12, 6)
    return groups


@pytest.mark.parametrize("name", ["bitmod3", "bitmod4"])
def test_a_thousand_groups_equal_the_literal_algorithm(name):
    # To repeat: the seed is fixed, and the message names the group.
    rng = np.random.default_rng(1912)
    lengths = (16, 32, 64, 128, 37)
    chosen, ties, on_middle = [], 0, 0
    for length in lengths:
        groups = np.concatenate([
            random_groups(rng, 200, length),
            tied_groups(rng, name, 80, length),
        ])
        made = quantize(groups, format=name, group_size=None)
        for number, group in enumerate(groups):
            member, delta, codes, errors = literal_group(group, name)
            where = f"{name}, length {length}, group {number}: {group.tolist()}"
            assert made.format_ids[number, 0] == member, where
            assert made.row_scales[number] == delta, where
            assert made.scales[number, 0, 0] == 1, where
            assert made.codes[number].tolist() == codes, where
            chosen.append(member)
            ties += errors.count(min(errors)) > 1
            on_middle += any(float(2 * w / delta) % 2 == 1 for w in group)
    assert len(chosen) == 1000 + 400
    assert set(chosen) == {0, 1, 2, 3}
    assert ties > 50
    assert on_middle > 100


def test_second_level_equals_the_literal_formula():
    rng = np.random.default_rng(7)
    weights = (random_groups(rng, 20, 8 * 16)).reshape(20, 8 * 16)
    weights[:, 16:32] *= 100
    made = quantize(weights, format="bitmod4", group_size=16)
    for row in range(20):
        groups = [weights[row, 16 * g : 16 * g + 16] for g in range(8)]
        literal = [
            literal_group(g, "bitmod4") if g.any() else Literal(0, 0.0, [0] * 16, [])
            for g in groups
        ]
        step = np.float32(max(choice.delta for choice in literal)) / np.float32(255)
        assert made.row_scales[row] == step, f"row {row}"
        for g, (member, delta, codes, _) in enumerate(literal):
            sigma = min(max(round(float(delta) / float(step)), 0), 255)
            where = f"row {row}, group {g}"
            assert made.scales[row, g, 0] == sigma, where
            assert made.format_ids[row, g] == member, where
            assert made.codes[row, 16 * g : 16 * g + 16].tolist() == codes, where


@pytest.mark.parametrize("name", ["bitmod3", "bitmod4"])
def test_codes_decode_to_the_values_of_the_paper(name):
    for item, special in zip(family(name).members, SPECIAL[name], strict=True):
        assert isinstance(item, ValueFormat)
        assert item.values == tuple(special if v is None else v for v in CODED[name])


def test_mirrored_group_takes_the_earlier_member():
    # Both signs of a special value fit equally well: the errors are the same numbers.
    group = np.array([[12, -12, 9.5, -9.5, 5, -5, 2, -2]], dtype=np.float32)
    errors = literal_group(group[0], "bitmod4").errors
    assert math.isclose(errors[0], errors[1], rel_tol=0)
    assert errors[0] < min(errors[2:])
    assert quantize(group, format="bitmod4", group_size=None).format_ids[0, 0] == 0
