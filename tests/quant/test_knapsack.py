import itertools
import time

import numpy as np
import pytest

from lutra.quant import knapsack


def brute_force(losses, costs, budget):
    """Least sum of losses, by trying everything."""
    units, candidates = losses.shape
    choices = itertools.product(range(candidates), repeat=units)
    rows = range(units)
    return min(
        sum(losses[i, f] for i, f in zip(rows, choice, strict=True))
        for choice in choices
        if sum(costs[i, f] for i, f in zip(rows, choice, strict=True)) <= budget
    )


def instance(seed):
    """Return losses, costs and a budget that can be met: of several kinds, in turns."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 7)), int(rng.integers(1, 5)))
    kind = seed % 5
    losses = rng.random(shape) * 10.0 ** rng.integers(-8, 3)
    if kind == 1:  # many ties
        losses = rng.integers(0, 4, shape).astype(float)
    if kind == 2:  # negative losses are no trouble
        losses -= losses.mean()
    if kind == 3:
        losses = np.sort(losses, axis=1)[:, ::-1]
    costs = rng.integers(0, 8, shape) * int(rng.integers(1, 4))
    if kind >= 3:  # the same for all units, as the bits of formats
        costs = np.broadcast_to(np.arange(2, 2 + shape[1]), shape)
    least, most = int(costs.min(axis=1).sum()), int(costs.max(axis=1).sum())
    return losses, costs, int(rng.integers(least, most + 2))


def check(found, losses, costs, budget):
    units = np.arange(len(losses))
    assert found.cost == costs[units, found.choices].sum() <= budget
    assert found.loss == pytest.approx(losses[units, found.choices].sum())
    assert found.bound <= found.loss + 1e-9 * abs(found.loss)


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_against_brute_force(first):
    for seed in range(first, first + 100):
        losses, costs, budget = instance(seed)
        found = knapsack(losses, costs, budget)
        best = brute_force(losses, costs, budget)
        check(found, losses, costs, budget)
        assert found.exact
        assert found.loss == pytest.approx(best, rel=1e-9, abs=1e-20), seed


@pytest.mark.parametrize("cells", [1, 3, 8])
def test_without_room_for_the_program_nothing_is_claimed(cells):
    """The bound never lies above the best, and what is called exact is the best."""
    claimed = 0
    for seed in range(400):
        losses, costs, budget = instance(seed)
        found = knapsack(losses, costs, budget, cells=cells)
        best = brute_force(losses, costs, budget)
        check(found, losses, costs, budget)
        tolerance = 1e-9 * abs(best) + 1e-20
        assert found.bound <= best + tolerance
        assert found.loss >= best - tolerance
        if found.exact:
            assert found.loss == pytest.approx(best, rel=1e-9, abs=1e-20)
            claimed += 1
    assert claimed > 0
    assert claimed < 400 or cells > 1


def test_a_gap_is_told():
    # Three units, of which the middle one is never worth it; half of the last step is left.
    losses = np.tile([[9.0, 8.0, 1.0]], (3000, 1))
    found = knapsack(losses, [2, 3, 4], 3 * 3000 + 1, cells=1000)
    assert not found.exact
    assert found.bound < found.loss
    # 1500 units of 4, one of 3: the best that there is.
    assert found.loss == 1500 * 1.0 + 8.0 + 1499 * 9.0


@pytest.mark.parametrize("costs", [[256, 384, 512], [3, 7, 20]])
def test_hundreds_of_thousands_of_units(costs):
    rng = np.random.default_rng(7)
    importance = rng.lognormal(0, 1.5, 300_000)
    losses = importance[:, None] * [1.0, 0.3, 0.07] * rng.uniform(0.7, 1.3, (300_000, 3))
    budget = int(np.mean(costs) * len(losses)) + 1
    start = time.perf_counter()
    found = knapsack(losses, costs, budget)
    assert time.perf_counter() - start < 30
    assert found.exact
    check(found, losses, np.broadcast_to(costs, losses.shape), budget)
    assert budget - found.cost < np.gcd.reduce(np.diff(costs)) + min(costs)


def test_equal_units_are_exact_where_the_budget_divides():
    losses = np.tile([[9.0, 4.0, 1.0]], (100_000, 1))
    found = knapsack(losses, [2, 3, 4], 300_000)
    assert found.exact
    assert found.loss == 400_000


def test_same_result_each_time():
    losses, costs, budget = instance(17)
    first, second = (knapsack(losses, costs, budget) for _ in range(2))
    assert np.array_equal(first.choices, second.choices)


def test_a_budget_for_everything():
    found = knapsack([[3.0, 1.0, 1.0]], [1, 2, 3], 10)
    assert found.choices.tolist() == [1]  # of equal losses the cheaper
    assert found.cost == 2
    assert found.budget == 10


@pytest.mark.parametrize(
    ("losses", "costs", "budget", "sentence"),
    [
        ([[1.0, 2.0]], [3, 4], 2, r"^A budget of 2 cannot be met; the least is 3$"),
        ([[1.0, np.nan]], [3, 4], 5, r"^Losses must be finite; remove NaN and infinity$"),
        ([[1.0, np.inf]], [3, 4], 5, r"^Losses must be finite"),
        ([1.0, 2.0], [3, 4], 5, r"^Losses must have units and candidates, not shape \(2,\)$"),
        ([[1.0, 2.0]], [3.0, 4.0], 5, r"^Costs must be integers of shape \(1, 2\) or \(2,\), "),
        ([[1.0, 2.0]], [3, 4, 5], 5, r"^Costs must be integers of shape"),
        ([[1.0, 2.0]], [-1, 4], 5, r"^Costs must not be negative$"),
    ],
)
def test_bad_arguments(losses, costs, budget, sentence):
    with pytest.raises(ValueError, match=sentence):
        knapsack(losses, costs, budget)
