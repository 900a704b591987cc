"""The cheapest way to be accurate: one candidate for every unit, within a budget."""

import sys

import numpy as np
import numpy.typing as npt

from .allocation import Allocation

__all__ = ["knapsack"]

_Floats = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]

# Cells of a dynamic program: one byte of memory and some nanoseconds each.
_CELLS = 30_000_000
_HALVINGS = 300
_ROUNDING = 1e-13


def knapsack(
    losses: npt.ArrayLike, costs: npt.ArrayLike, budget: int, *, cells: int = _CELLS
) -> Allocation:
    """Choose one candidate a unit so that the sum of losses is least within a budget.

    The multiple-choice knapsack problem, in three steps:

    1. a price for a unit of cost, by bisection: the units that take the least of ``loss + price *
       cost``, each by itself, then spend as much of the budget as possible without going beyond
       it. What is left is given to the units that gain most by it. The price also gives a lower
       bound on the best sum of losses;
    2. what the bound rules out: a candidate whose choice alone would lift the bound above the loss
       already found is in no better solution and is struck out;
    3. the units that still have several candidates are settled by dynamic programming over their
       costs, in steps of their greatest common divisor.

    The result is the best there is, up to rounding of sums in float64, whenever the program of
    step 3 fits ``cells``; small instances always do, and hundreds of thousands of units nearly
    always, as few are left by step 2. Where it does not fit, only the units nearest to a change
    are settled by it, and the result is as good as :attr:`Allocation.bound` tells and no better:
    :attr:`Allocation.exact` is then false, unless loss and bound meet all the same.

    Parameters
    ----------
    losses : float array, shape (U, F)
        Finite; of each unit with each candidate.
    costs : int array, shape (U, F) or (F,)
        Not negative.
    budget : int
        Most that the chosen costs may add up to.
    cells : int
        Largest dynamic program, in units times steps of cost.

    Raises
    ------
    :exc:`ValueError`
        If the budget is too small for the cheapest candidates, or an argument is not as stated.

    Source
    ------
    Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, chapter 11: the Lagrangian relaxation,
    the reduction by bounds and the dynamic program of the multiple-choice knapsack problem.
    """
    loss, cost = _checked(losses, costs)
    least = int(cost.min(axis=1).sum())
    if least > budget:
        raise ValueError(f"A budget of {budget} cannot be met; the least is {least}")
    # Cheapest first, of equal ones the better: the first of equals is then the one to take.
    order = np.lexsort((loss, cost), axis=1)
    ordered_loss = np.take_along_axis(loss, order, axis=1)
    ordered_cost = np.take_along_axis(cost, order, axis=1)
    choices, bound = _solve(ordered_loss, ordered_cost, budget, cells)
    original = np.take_along_axis(order, choices[:, None], axis=1)
    return Allocation(
        choices=original[:, 0].astype(np.int64),
        cost=int(np.take_along_axis(cost, original, axis=1).sum()),
        budget=int(budget),
        loss=float(np.take_along_axis(loss, original, axis=1).sum()),
        bound=bound,
    )


def _checked(losses: npt.ArrayLike, costs: npt.ArrayLike) -> tuple[_Floats, _Integers]:
    loss = np.asarray(losses, dtype=np.float64)
    given = np.asarray(costs)
    if loss.ndim != 2 or not loss.size:
        raise ValueError(f"Losses must have units and candidates, not shape {loss.shape}")
    if given.dtype.kind not in "iu" or given.shape not in (loss.shape, loss.shape[1:]):
        raise ValueError(
            f"Costs must be integers of shape {loss.shape} or {loss.shape[1:]}, "
            f"not {given.dtype} of shape {given.shape}"
        )
    if not np.isfinite(loss).all():
        raise ValueError("Losses must be finite; remove NaN and infinity")
    if (given < 0).any():
        raise ValueError("Costs must not be negative")
    return loss, np.broadcast_to(given.astype(np.int64), loss.shape)


def _solve(loss: _Floats, cost: _Integers, budget: int, cells: int) -> tuple[_Integers, float]:
    """Return choices and a lower bound on the least loss; candidates are sorted by cost."""
    free = loss.argmin(axis=1)
    if _total(cost, free) <= budget:
        return free, _total(loss, free)
    price, cheap, dear = _bisect(loss, cost, budget)
    choices = _fill(loss, cost, cheap, dear, budget)
    reduced = loss + price * cost
    least = reduced.min(axis=1)
    bound = float(least.sum()) - price * budget
    reduced -= least[:, None]
    slack = _ROUNDING * (float(np.abs(least).sum()) + price * budget)
    best = _total(loss, choices)
    while best - bound > slack:
        open_candidates = reduced <= best - bound + slack
        settled, whole = _settle(loss, cost, budget, reduced, open_candidates, cells)
        better = _total(loss, settled)
        improved = better < best
        if improved:
            best, choices = better, settled
        if whole:
            return choices, best
        if not improved:
            break
    return choices, min(bound, best)


def _total(values, choices: _Integers):
    """Add up the chosen values: an int for costs, a float for losses."""
    return np.take_along_axis(values, choices[:, None], axis=1).sum().item()


def _bisect(loss: _Floats, cost: _Integers, budget: int) -> tuple[float, _Integers, _Integers]:
    """Return a price, and the choices just within and just beyond the budget."""
    low, high = 0.0, 2 * float(np.ptp(loss, axis=1).max()) + sys.float_info.min
    cheap = (loss + high * cost).argmin(axis=1)
    if _total(cost, cheap) > budget:  # where losses are lost in rounding
        cheap = np.zeros(len(loss), dtype=np.int64)
    dear = loss.argmin(axis=1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        choices = (loss + middle * cost).argmin(axis=1)
        spent = _total(cost, choices)
        if spent > budget:
            low, dear = middle, choices
        else:
            high, cheap = middle, choices
            if spent == budget:
                break
    return high, cheap, dear


def _fill(loss, cost, cheap: _Integers, dear: _Integers, budget: int) -> _Integers:
    """Spend what ``cheap`` leaves: first on units that ``dear`` has better, then on any."""
    choices = cheap.copy()
    left = budget - _total(cost, choices)
    units = np.flatnonzero(cheap != dear)
    extra = cost[units, dear[units]] - cost[units, cheap[units]]
    gain = loss[units, cheap[units]] - loss[units, dear[units]]
    units, extra, gain = (array[(extra > 0) & (gain > 0)] for array in (units, extra, gain))
    order = np.argsort(-gain / extra, kind="stable")
    spent = np.cumsum(extra[order])
    taken = int(np.searchsorted(spent, left, side="right"))
    choices[units[order[:taken]]] = dear[units[order[:taken]]]
    left -= int(spent[taken - 1]) if taken else 0
    everyone = np.arange(len(loss))
    while left > 0:
        extra = cost - cost[everyone, choices][:, None]
        gain = loss[everyone, choices][:, None] - loss
        gain[extra > left] = 0
        unit, candidate = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[unit, candidate] <= 0:
            break
        choices[unit] = candidate
        left -= int(extra[unit, candidate])
    return choices


def _settle(
    loss: _Floats,
    cost: _Integers,
    budget: int,
    reduced: _Floats,
    open_candidates: npt.NDArray[np.bool_],
    cells: int,
) -> tuple[_Integers, bool]:
    """Settle the units with several open candidates; say whether that was all of them."""
    choices = reduced.argmin(axis=1)
    units = np.flatnonzero(open_candidates.sum(axis=1) > 1)
    # Units whose second choice is nearest to their first come first.
    second = np.sort(reduced[units], axis=1)[:, 1]
    units = units[np.argsort(second, kind="stable")]
    whole = True
    while True:
        fixed = np.ones(len(loss), dtype=bool)
        fixed[units] = False
        spent = int(cost[fixed, choices[fixed]].sum())
        usable = open_candidates[units] if whole else np.ones((len(units), loss.shape[1]), bool)
        base = np.where(usable, cost[units], np.iinfo(np.int64).max).min(axis=1)
        extra = cost[units] - base[:, None]
        room = budget - spent - int(base.sum())
        step = int(np.gcd.reduce(extra[usable], initial=0)) or 1
        steps = min(room, int(np.where(usable, extra, 0).max(axis=1).sum())) // step
        if len(units) * (steps + 1) <= cells or len(units) <= 1:
            break
        units, whole = units[: max(1, int(len(units) * 0.7))], False
    if room < 0:  # the units left out spend too much already
        return np.zeros(len(loss), dtype=np.int64), False
    choices[units] = _dynamic(loss[units], extra // step, usable, steps)
    return choices, whole


def _dynamic(loss: _Floats, steps: _Integers, usable, capacity: int) -> _Integers:
    """Solve by dynamic programming: ``least[c]`` is the least loss for at most ``c`` steps."""
    least = np.zeros(capacity + 1)
    taken = np.zeros((len(loss), capacity + 1), dtype=np.uint8)
    for unit in range(len(loss)):
        best = np.full(capacity + 1, np.inf)
        for candidate in np.flatnonzero(usable[unit]):
            step = int(steps[unit, candidate])
            if step > capacity:
                continue
            value = least[: capacity + 1 - step] + loss[unit, candidate]
            better = value < best[step:]
            np.copyto(best[step:], value, where=better)
            np.copyto(taken[unit, step:], np.uint8(candidate), where=better)
        least = best
    choices = np.zeros(len(loss), dtype=np.int64)
    left = capacity
    for unit in reversed(range(len(loss))):
        choices[unit] = taken[unit, left]
        left -= int(steps[unit, choices[unit]])
    return choices
