"""Layers that nobody trained, to try an engine with."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..formats import QuantizedMatrix, family
from ..quant import AnyRecipe, LayeredRecipe, Mixture, quantize, quantize_by, quantize_mixture
from ..sim import random_matrix
from .config import EngineConfig

__all__ = ["random_layer", "recipe_layer"]

_CALIBRATION_TOKENS = 256


def random_layer(
    shape: tuple[int, int],
    formats: Sequence[str],
    group_size: int | None,
    config: EngineConfig,
    *,
    seed: int,
) -> QuantizedMatrix:
    """Make a layer of one format, or one whose every group has one of several.

    Parameters
    ----------
    shape : pair of int
        N and K.
    formats : sequence of str
        Names of families. Normally distributed weights are quantised to a single one; of several,
        every group takes a member at random, and so are its codes and scales.
    group_size : int or None
        None for whole rows.
    config : EngineConfig
        What the layer is for: its scales have that width.
    seed : int
        Equal arguments give equal layers.

    Raises
    ------
    :exc:`ValueError`
        If the layer is larger than the engine's limit or a name is unknown.
    """
    _check(shape, config)
    rows, columns = shape
    scale_width = config.parameters.layout.scale_width
    if len(formats) == 1:
        return quantize(
            _weights(shape, seed),
            format=formats[0],
            group_size=group_size,
            scale_width=scale_width,
        )
    members = [item for name in formats for item in family(name).members]
    size = columns if group_size is None else min(group_size, columns)
    return random_matrix(members, rows, columns, size, seed=seed, scale_width=scale_width)


def recipe_layer(
    shape: tuple[int, int], recipe: AnyRecipe, config: EngineConfig, *, seed: int
) -> QuantizedMatrix:
    """Quantise normally distributed weights by a recipe.

    Parameters
    ----------
    shape : pair of int
        N and K.
    recipe : AnyRecipe
        A uniform one or a mixture; both are calibrated with normally distributed inputs, and the
        budget of a mixture is the layer's.
    config : EngineConfig
        What the layer is for; it says what a budget of cycles counts.
    seed : int
        Equal arguments give equal layers.

    Raises
    ------
    :exc:`ValueError`
        If the layer is larger than the engine's limit, the recipe is one for several layers, or its
        budget cannot be met.
    """
    _check(shape, config)
    weights = _weights(shape, seed)
    if isinstance(recipe, LayeredRecipe):
        raise ValueError("A random layer has no name; use a recipe without [[layers]], or --model")
    inputs = np.random.default_rng(seed + 1).standard_normal((_CALIBRATION_TOKENS, shape[1]))
    if isinstance(recipe, Mixture):
        return quantize_mixture(
            weights,
            recipe,
            inputs=inputs if recipe.needs_calibration else None,
            cycles=config.parameters.slice_cycles,
        )
    return quantize_by(recipe, weights, calibration=inputs if recipe.needs_calibration else None)


def _check(shape: tuple[int, int], config: EngineConfig) -> None:
    """Refuse a layer before anything as large as that is made."""
    layout = config.parameters.layout
    if shape[0] > layout.max_rows or shape[1] > layout.max_columns:
        raise ValueError(
            f"--shape {shape[0]}x{shape[1]} is larger than the limit of {config.name}, "
            f"{layout.max_rows}x{layout.max_columns}"
        )


def _weights(shape: tuple[int, int], seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
