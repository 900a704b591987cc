"""From a float matrix to a quantised one of several formats."""

from collections.abc import Callable
from dataclasses import replace

import numpy.typing as npt

from ..formats import NumberFormat, QuantizedMatrix
from .allocate import allocate
from .checked_calibration import checked_calibration
from .finite import finite_bias, finite_weights
from .layer_options import LayerOptions, plane_count
from .mixture import Mixture

__all__ = ["quantize_mixture"]


def quantize_mixture(
    weights: npt.ArrayLike,
    mixture: Mixture,
    *,
    inputs: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    cycles: Callable[[NumberFormat], int] = plane_count,
) -> QuantizedMatrix:
    """Quantise a weight matrix to a mixture of formats; the budget is that of this layer.

    Parameters
    ----------
    weights : float array, shape (N, K)
        Finite; taken as float32.
    mixture : Mixture
        Candidates, budget and how to choose. Its scope does not matter here.
    inputs : float array, shape (M, K), optional
        Activations of calibration data, for sensitivities other than ``weight``.
    bias : float array, shape (N,), optional
        Finite; kept as float32 beside the weights.
    cycles : callable
        Cycles of one slice of a format's weights, for budgets of cycles.

    Raises
    ------
    :exc:`ValueError`
        If the budget is too small, the inputs are missing or do not fit, or an array is not of
        finite real numbers.
    """
    matrix = finite_weights(weights)
    offsets = None if bias is None else finite_bias(bias, len(matrix))
    calibration = None
    if inputs is not None:
        calibration = checked_calibration(inputs, *matrix.shape)
    elif mixture.needs_calibration:
        raise ValueError(f"Sensitivity {mixture.sensitivity!r} needs inputs of calibration data")
    options = LayerOptions(matrix, mixture, calibration, bias=offsets, cycles=cycles)
    if mixture.allocator == "slim":
        choices = options.choose_slim()
    else:
        choices = allocate(options.losses(), options.costs(), mixture, matrix.size).choices
    made = options.quantize(choices)
    return made if offsets is None else replace(made, bias=offsets)
