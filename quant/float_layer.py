"""A layer of a float checkpoint."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FloatLayer"]


@dataclass(frozen=True, slots=True, eq=False)
class FloatLayer:
    """A layer as trained.

    Parameters
    ----------
    name : str
    weights : float32 array, shape (N, K)
    bias : float32 array, shape (N,), optional
    """

    name: str
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None = None
