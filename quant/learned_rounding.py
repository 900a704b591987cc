"""Each weight to one of its two neighbours, learned for the layer's output."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .calibration import LayerCalibration
from .column_factors import column_factors
from .group_searches import find_search
from .groups import quantize_groups
from .input_hessian import damped_hessian
from .nearest_codes import group_tables

__all__ = ["learned_rounding"]

_Floats = npt.NDArray[np.float32]


def learned_rounding(
    weights: _Floats,
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    calibration: LayerCalibration,
    base: str = "auto",
    steps: int = 200,
    rate: float = 0.05,
    damping: float = 0.1,
    device: str = "cpu",
) -> QuantizedMatrix:
    """Quantise with learned rounding, to any set of values.

    Formats and scales are those of another method; then each weight takes the nearest value below
    or above it. Which one is learned by Adam, so that the squared error of the layer's outputs on
    calibration data falls, with a pull towards either side that grows. A row where that does not
    help is rounded to nearest.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale.
    calibration : LayerCalibration
    base : str
        Method that finds formats and scales; "auto" is the best for the family, with squared errors
        multiplied by the mean squares of the inputs.
    steps : int
        Steps of Adam.
    rate : float
        Learning rate.
    damping : float
        Added to the diagonal of the inputs' Hessian, as a share of its mean.
    device : str
        "cpu" or "cuda".

    Raises
    ------
    :exc:`ValueError`
        If PyTorch is not installed or sees no such device.

    Source
    ------
    Nagel et al., AdaRound, ICML 2020.
    """
    from .learned import learn_rounding

    start = quantize_groups(
        weights,
        find_search(family, base),
        members=family.members,
        group_size=group_size,
        scale_width=scale_width,
        column_factors=column_factors("activation", calibration),
    )
    (low_codes, low), (high_codes, high) = _neighbours(weights, start)
    upper = learn_rounding(
        weights,
        damped_hessian(calibration.inputs, damping),
        low,
        high,
        steps=steps,
        rate=rate,
        device=device,
    )
    return replace(start, codes=np.where(upper, high_codes, low_codes))


def _neighbours(weights: _Floats, matrix: QuantizedMatrix):
    """Return codes and values of the lower and the upper neighbour of each weight, (N, K) each."""
    codes = np.empty((2, *weights.shape), dtype=np.uint8)
    values = np.empty((2, *weights.shape), dtype=np.float32)
    rows = np.arange(len(weights))
    for group in range(matrix.groups):
        tables = group_tables(matrix, group)
        end = min((group + 1) * matrix.group_size, weights.shape[1])
        for column in range(group * matrix.group_size, end):
            for side, ranks in enumerate(tables.neighbours(weights[:, column])):
                codes[side, :, column] = tables.codes[ranks, rows]
                values[side, :, column] = tables.weights[ranks, rows]
    return (codes[0], values[0]), (codes[1], values[1])
