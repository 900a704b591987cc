"""How far quantised weights are from those of the checkpoint."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..formats import QuantizedMatrix

__all__ = ["WeightError", "weight_error"]


@dataclass(frozen=True)
class WeightError:
    """Signal and noise of quantised weights; those of several layers can be added.

    Parameters
    ----------
    signal : float
        Sum of the squared weights.
    noise : float
        Sum of the squared differences between quantised weights and weights.
    """

    signal: float = 0.0
    noise: float = 0.0

    def __add__(self, other: "WeightError") -> "WeightError":
        return WeightError(self.signal + other.signal, self.noise + other.noise)

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantisation-noise ratio in decibels; infinite without noise."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


def weight_error(weights: npt.NDArray[np.float32], quantised: QuantizedMatrix) -> WeightError:
    """Compare a matrix with what it was quantised to.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Of the checkpoint.
    quantised : QuantizedMatrix
        Of the same shape.

    Raises
    ------
    :exc:`ValueError`
        If the shapes differ.
    """
    if weights.shape != quantised.codes.shape:
        raise ValueError(
            f"Quantised weights must have shape {weights.shape} like the checkpoint's, not "
            f"{quantised.codes.shape}"
        )
    wide = weights.astype(np.float64)
    return WeightError(
        float(np.square(wide).sum()), float(np.square(quantised.dequantize() - wide).sum())
    )
