"""Scales of single channels, merged into the layers on either side."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .decoder_block import DecoderBlock, Tensors

__all__ = ["scale_hidden", "scale_norm"]

_Floats = npt.NDArray[np.float64]


def scale_norm(
    tensors: Tensors,
    norm: str,
    layers: Sequence[str],
    scales: npt.ArrayLike,
    shifts: npt.ArrayLike | None = None,
) -> dict[str, npt.NDArray]:
    """Divide the output of a norm by scales, channel by channel, and multiply the weights by them.

    Parameters
    ----------
    tensors : mapping of str to arrays
    norm : str
        Name of the norm, without ``.weight``.
    layers : sequence of str
        All linear layers that take its output.
    scales : float array, shape (hidden,)
        Not 0.
    shifts : float array, shape (hidden,), optional
        Subtracted from the output before it is divided; layers get a bias that makes up for it.
        Only where the norm has a bias into which they can be merged.

    Returns
    -------
    dict
        All tensors, those that have changed in float64.

    Raises
    ------
    :exc:`ValueError`
        If a scale is 0 or not finite, or there are shifts and no bias of the norm.

    Source
    ------
    Xiao et al., SmoothQuant, ICML 2023; with shifts Shao et al., OmniQuant, ICLR 2024, section 3.3.
    """
    gain = tensors[f"{norm}.weight"].astype(np.float64)
    s = _checked(scales, gain.shape)
    made = dict(tensors)
    bias = tensors.get(f"{norm}.bias")
    moved = np.zeros_like(s)
    if shifts is not None:
        if bias is None:
            raise ValueError(
                f"Shifts cannot be merged into {norm}, which has no bias; leave them out"
            )
        moved = np.asarray(shifts, np.float64)
    made[f"{norm}.weight"] = gain / s
    if bias is not None:
        made[f"{norm}.bias"] = (bias.astype(np.float64) - moved) / s
    for name in layers:
        weights = tensors[f"{name}.weight"].astype(np.float64)
        made[f"{name}.weight"] = weights * s
        if shifts is not None:
            old = tensors.get(f"{name}.bias", np.zeros(len(weights)))
            made[f"{name}.bias"] = old.astype(np.float64) + weights @ moved
    return made


def scale_hidden(
    tensors: Tensors, block: DecoderBlock, scales: npt.ArrayLike
) -> dict[str, npt.NDArray]:
    """Divide the rows of ``up_proj`` by scales and multiply the columns of ``down_proj`` by them.

    What lies between is a product element by element, so that scales pass through it; signs do,
    too.

    Parameters
    ----------
    tensors : mapping of str to arrays
    block : DecoderBlock
    scales : float array, shape (intermediate,)
        Not 0.

    Returns
    -------
    dict
        All tensors, those that have changed in float64.
    """
    up, down = block.name("mlp.up_proj"), block.name("mlp.down_proj")
    weights = tensors[f"{up}.weight"].astype(np.float64)
    s = _checked(scales, weights.shape[:1])
    made = dict(tensors)
    made[f"{up}.weight"] = weights / s[:, None]
    if f"{up}.bias" in tensors:
        made[f"{up}.bias"] = tensors[f"{up}.bias"].astype(np.float64) / s
    made[f"{down}.weight"] = tensors[f"{down}.weight"].astype(np.float64) * s
    return made


def _checked(scales: npt.ArrayLike, shape: tuple[int, ...]) -> _Floats:
    s = np.asarray(scales, np.float64)
    if s.shape != shape or not np.isfinite(s).all() or not s.all():
        raise ValueError(f"Scales must be {shape[0]} finite numbers other than 0")
    return s
