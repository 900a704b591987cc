"""From a budget as people state it to a choice for every unit."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from .allocation import Allocation
from .knapsack import knapsack
from .mixture import Mixture

__all__ = ["allocate", "spent"]


def allocate(
    losses: npt.NDArray[np.float64],
    costs: npt.NDArray[np.int64],
    mixture: Mixture,
    weight_count: int,
) -> Allocation:
    """Choose a candidate for every unit that shares a budget, by :func:`knapsack`.

    Parameters
    ----------
    losses : float64 array, shape (U, F)
    costs : int64 array, shape (U, F)
        In bits for budgets of bits and bytes; in cycles times weights for cycles.
    mixture : Mixture
        Whose budget it is.
    weight_count : int
        Weights of all the units.

    Raises
    ------
    :exc:`ValueError`
        If the budget is too small; the sentence has the least that is not.
    """
    if mixture.quantity == "bytes":
        budget = int(8 * mixture.amount)
    else:
        budget = int(mixture.amount * weight_count)
    least = int(costs.min(axis=1).sum())
    if least > budget:
        if mixture.quantity == "bytes":
            raise mixture.unmeetable(-(-least // 8))
        raise mixture.unmeetable(Fraction(least, weight_count))
    return knapsack(losses, costs, budget)


def spent(cost: int, mixture: Mixture, weight_count: int) -> int | float:
    """Return a cost in the units of the mixture's budget; bytes are rounded up."""
    return -(-cost // 8) if mixture.quantity == "bytes" else cost / weight_count
