"""Scales of channels that make a block's weights easier to quantise."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..calibration import LayerCalibration
from ..quantize import quantize_by
from ..recipe import Recipe
from .decoder_block import DecoderBlock, Tensors
from .equivalence import check_equivalence
from .scales import scale_hidden, scale_norm

__all__ = ["smooth_block", "smooth_scales"]

_Floats = npt.NDArray[np.float64]
_EXPONENTS = tuple(step / 10 for step in range(11))
_SPAN = 1e4


def smooth_scales(
    weights: npt.NDArray[np.floating], inputs: npt.NDArray[np.floating], exponent: float
) -> _Floats:
    """Return ``max|x|**a / max|w|**(1 - a)`` of every channel, with a geometric mean of 1.

    Parameters
    ----------
    weights : float array, shape (N, K)
        Rows of all layers that share the channels.
    inputs : float array, shape (M, K)
    exponent : float
        ``a``: 0 leaves activations out, 1 the weights.

    Source
    ------
    Xiao et al., SmoothQuant, ICML 2023, equation 4: where OmniQuant and AffineQuant start.
    """
    x, w = (np.abs(item.astype(np.float64)).max(axis=0) for item in (inputs, weights))
    live = (x > 0) & (w > 0)
    scales = np.where(live, x, 1) ** exponent / np.where(live, w, 1) ** (1 - exponent)
    scales[live] /= np.exp(np.log(scales[live]).mean()) if live.any() else 1
    scales[~live] = 1
    return np.clip(scales, 1 / _SPAN, _SPAN)


def smooth_block(
    tensors: Tensors,
    block: DecoderBlock,
    inputs: Mapping[str, npt.NDArray[np.floating]],
    recipe: Recipe,
) -> dict[str, npt.NDArray]:
    """Scale the channels after norms and before ``down_proj`` for the least error of outputs.

    Of eleven exponents of :func:`smooth_scales`, and no scales at all, that is taken at each
    position which gives the layers after it the least squared error of outputs, once quantised by
    the recipe. The result is checked to be equivalent.

    Parameters
    ----------
    tensors : mapping of str to arrays
    block : DecoderBlock
    inputs : mapping of str to float arrays, shape (M, K)
        Calibration inputs by the names of layers, for all that follow a norm and ``down_proj``.
    recipe : Recipe

    Returns
    -------
    dict
        All tensors, those that have changed in float64.

    Source
    ------
    Lin et al., AWQ, MLSys 2024, section 3.2: a grid instead of gradients; positions of Shao et al.,
    OmniQuant, ICLR 2024, section 3.3.
    """
    made = dict(tensors)
    for norm, layers in block.after_norms().items():
        x = inputs[layers[0]]
        best = _best_scales(made, layers, x, recipe)
        if best is not None:
            made = scale_norm(made, norm, layers, best)
    down = block.name("mlp.down_proj")
    best = _best_scales(made, (down,), inputs[down], recipe)
    if best is not None:
        made = scale_hidden(made, block, best)
    check_equivalence(tensors, made, block)
    return made


def _best_scales(tensors: Tensors, layers, x, recipe: Recipe) -> _Floats | None:
    """Return the scales of least error, or None where those of no scales is less."""
    weights = [tensors[f"{name}.weight"].astype(np.float64) for name in layers]
    found, least = None, _error(weights, np.ones(x.shape[1]), x, recipe)
    for exponent in _EXPONENTS:
        scales = smooth_scales(np.concatenate(weights), x, exponent)
        error = _error(weights, scales, x, recipe)
        if error < least:
            found, least = scales, error
    return found


def _error(weights, scales: _Floats, x, recipe: Recipe) -> float:
    """Return the squared error of the outputs of layers, with scaled weights quantised."""
    y = (x / scales).astype(np.float32)
    known = LayerCalibration(inputs=y, importance=np.ones(1))
    total = 0.0
    for matrix in weights:
        scaled = (matrix * scales).astype(np.float32)
        made = quantize_by(recipe, scaled, calibration=known if recipe.needs_calibration else None)
        total += float(np.square((made.dequantize() - scaled) @ y.T.astype(np.float64)).sum())
    return total
