"""What an allocator decided, and how good that is known to be."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["Allocation"]

# Sums of float64 in different orders differ by less than this share of them.
_ROUNDING = 1e-11


@dataclass(frozen=True, kw_only=True, eq=False)
class Allocation:
    """A candidate for every unit.

    Parameters
    ----------
    choices : int64 array, shape (U,)
        Index of each unit's candidate.
    cost : int
        Sum of the chosen costs.
    budget : int
        What ``cost`` is at most.
    loss : float
        Sum of the chosen losses.
    bound : float
        No choice within the budget has a smaller sum of losses, but for rounding in float64.
    """

    choices: npt.NDArray[np.int64]
    cost: int
    budget: int
    loss: float
    bound: float

    @cached_property
    def exact(self) -> bool:
        """Whether the choice is proved to be the best, up to rounding in float64."""
        return self.loss - self.bound <= _ROUNDING * max(abs(self.loss), abs(self.bound))
