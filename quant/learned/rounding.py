"""The lower or the upper neighbour of each weight, learned by gradients."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .output_loss import OutputLoss, choose_device

__all__ = ["learn_rounding"]

# Stretched beyond 0 and 1, a sigmoid reaches both; as AdaRound, equation 23.
_STRETCH, _SHIFT = 1.2, -0.1
_FIRST_POWER, _LAST_POWER = 20.0, 2.0
_FREE_SHARE = 0.2  # of the steps, before weights are driven to either side
_DRIVE = 1.0  # beside a row's output error, as a share of what it begins with
_EVERY = 20  # steps between looks at what rounding has come to
_TINY = 1e-30


def learn_rounding(
    weights: npt.NDArray[np.float32],
    hessian: npt.NDArray[np.float64],
    lower: npt.NDArray[np.float32],
    upper: npt.NDArray[np.float32],
    *,
    steps: int,
    rate: float,
    device: str,
) -> npt.NDArray[np.bool_]:
    """Return which weights take their upper neighbour, bool of shape (N, K).

    Each row ends with what was best for it of all the roundings that the steps went through; the
    first of them is that to nearest.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
    hessian : float64 array, shape (K, K)
        Of the squared error of outputs.
    lower, upper : float32 arrays, shape (N, K)
        Neighbours of each weight; equal beyond the ends.
    steps : int
    rate : float
        Learning rate of Adam.
    device : str
        "cpu" or "cuda".

    Source
    ------
    Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020, section
    3.2, with neighbours in any set of values; its use for floats: Chen et al., 2408.06995.
    """
    where = choose_device(device)
    loss = OutputLoss(hessian, weights, where)
    w, low, high = (torch.from_numpy(item).to(where) for item in (weights, lower, upper))
    gap = high - low
    share = torch.where(gap > 0, (w - low) / torch.where(gap > 0, gap, 1), 0.5).clamp(0.01, 0.99)
    logits = torch.logit((share - _SHIFT) / _STRETCH).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=rate)
    # Ties go to the lower neighbour, as everywhere.
    best = w - low > high - w
    least, _ = loss(torch.where(best, high, low))
    scale = 1 / least.clamp_min(_TINY)[:, None]
    for step in range(steps):
        h = _soft(logits)
        _, slope = loss(low + gap * h)
        # Weights beyond the ends have a gap of 0: nothing pulls them.
        slope = 2 * slope * gap * scale
        progress = (step / steps - _FREE_SHARE) / (1 - _FREE_SHARE)
        if progress > 0:
            power = _LAST_POWER + (_FIRST_POWER - _LAST_POWER) * (1 - progress)
            slope = slope - _DRIVE / w.shape[1] * _pull(h.detach(), power)
        optimizer.zero_grad()
        h.backward(slope)
        optimizer.step()
        if step % _EVERY == _EVERY - 1 or step == steps - 1:
            taken = _soft(logits.detach()) > 0.5
            losses, _ = loss(torch.where(taken, high, low))
            better = losses < least
            least = torch.where(better, losses, least)
            best[better] = taken[better]
    return best.cpu().numpy()


def _soft(logits: Tensor) -> Tensor:
    """Return numbers from 0, the lower neighbour, to 1, the upper one."""
    return (torch.sigmoid(logits) * _STRETCH + _SHIFT).clamp(0, 1)


def _pull(h: Tensor, power: float) -> Tensor:
    """Return the negative slope of ``1 - |2 h - 1|**power``."""
    centred = 2 * h - 1
    return 2 * power * centred.abs() ** (power - 1) * centred.sign()
