"""Bounds of each group, learned by the gradient of the output's error."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..clip_start import ClipStart
from .output_loss import OutputLoss, choose_device

__all__ = ["LearnedClipping"]

_LARGEST_LOGIT = 4.0  # where OmniQuant starts: a sigmoid of 0.982
_TINY = 1e-30


class LearnedClipping:
    """Learns how much of each group's range its values have to span.

    The greatest and the least weight of a group are multiplied by the sigmoids of two parameters,
    one where the format has no offset. Rounding passes gradients straight through. Of all steps,
    each row keeps what was best for it, the start among them.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
    hessian : float64 array, shape (K, K)
        Of the squared error of outputs.
    start : ClipStart
    device : str
        "cpu" or "cuda".

    Source
    ------
    Shao et al., OmniQuant, ICLR 2024, section 3.2.
    """

    def __init__(
        self,
        weights: npt.NDArray[np.float32],
        hessian: npt.NDArray[np.float64],
        start: ClipStart,
        device: str,
    ):
        self._device = choose_device(device)
        self._loss = OutputLoss(hessian, weights, self._device)
        self._start = start
        self._columns = weights.shape[1]
        spare = start.groups * start.group_size - self._columns
        padded = np.pad(weights, ((0, 0), (0, spare)))
        self._grouped = self._tensor(padded).reshape(len(weights), start.groups, -1)
        self._high, self._low = self._tensor(start.high), self._tensor(start.low)
        self._ids = torch.from_numpy(start.format_ids.astype(np.int64)).to(self._device)
        self._set_tables()

    def learn(self, steps: int, rate: float) -> tuple[npt.NDArray, npt.NDArray]:
        """Return the best factors of the greatest and the least weights, float32 (N, G) each."""
        best = [self._tensor(item) for item in (self._start.high_ratio, self._start.low_ratio)]
        logits = [_logit(item).requires_grad_() for item in best]
        optimizer = torch.optim.Adam(logits, lr=rate)
        least, _ = self._loss(self._quantised(*best))
        scale = (1 / least.clamp_min(_TINY))[:, None]  # rows are learned alike, whatever their size
        for step in range(steps + 1):
            ratios = [torch.sigmoid(item) for item in logits]
            quantised = self._quantised(*ratios)
            losses, slope = self._loss(quantised)
            better = losses < least
            least = torch.where(better, losses, least)
            best = [
                torch.where(better[:, None], item.detach(), kept)
                for item, kept in zip(ratios, best, strict=True)
            ]
            if step < steps:
                optimizer.zero_grad()
                quantised.backward(slope * scale)
                optimizer.step()
        high, low = (item.cpu().numpy() for item in best)
        return high, low

    def _set_tables(self) -> None:
        """Keep the values of every member, in ascending order, and the middles between them."""
        self._tables: list[tuple[Tensor, Tensor]] = []
        for values in self._start.values:
            table = self._tensor(np.array(values, np.float64))
            self._tables.append((table, (table[:-1] + table[1:]) / 2))
        reach = np.array([values[-1] - values[0] for values in self._start.values])
        top = np.array([max(abs(value) for value in values) for values in self._start.values])
        lows = np.array([values[0] for values in self._start.values])
        highs = np.array([values[-1] for values in self._start.values])
        take = self._start.format_ids
        self._reach = self._tensor((reach if self._start.has_offset else top)[take])
        self._bottom, self._top = self._tensor(lows[take]), self._tensor(highs[take])

    def _quantised(self, high_ratio: Tensor, low_ratio: Tensor) -> Tensor:
        """Return the weights for given factors, with gradients, shape (N, K)."""
        step, zero = self._step(high_ratio, low_ratio)
        x = self._grouped / step[..., None] + zero[..., None]
        bottom, top = self._bottom[..., None], self._top[..., None]
        inside = torch.maximum(torch.minimum(x, top), bottom)
        rounded = inside + (self._nearest(inside.detach()) - inside.detach())
        found = (rounded - zero[..., None]) * step[..., None]
        return found.flatten(1)[:, : self._columns]

    def _step(self, high_ratio: Tensor, low_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step and the place of 0 among the values, (N, G) each."""
        high, low = high_ratio * self._high, low_ratio * self._low
        if not self._start.has_offset:
            step = (high_ratio * torch.maximum(self._high, -self._low)) / self._reach
            return _positive(step), torch.zeros_like(step)
        step = _positive((high - low) / self._reach)
        zero = self._bottom - low / step
        if self._start.has_zero_point:
            zero = zero + (torch.round(zero) - zero).detach()
        return step, zero

    def _nearest(self, x: Tensor) -> Tensor:
        if len(self._tables) == 1:
            table, middles = self._tables[0]
            return table[torch.bucketize(x, middles)]
        found = torch.empty_like(x)
        for index, (table, middles) in enumerate(self._tables):
            chosen = self._ids == index
            found[chosen] = table[torch.bucketize(x[chosen], middles)]
        return found

    def _tensor(self, array: npt.NDArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self._device)


def _logit(ratio: Tensor) -> Tensor:
    return torch.logit(ratio.clamp(1e-3, 1.0), eps=1e-6).clamp_max(_LARGEST_LOGIT)


def _positive(step: Tensor) -> Tensor:
    """Keep groups of zeros from a division by 0."""
    return torch.where(step > 0, step, torch.ones_like(step))
