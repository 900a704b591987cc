"""Matrices between values and the attention's output, learned for layers that are quantised."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...formats import ValueFormat
from ..row_tables import usable_codes

__all__ = ["learn_value_matrices"]

_Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class _Rounding:
    """Rounding to nearest with straight-through gradients, the largest weight of a group fits."""

    values: Tensor
    group_size: int

    def __call__(self, weights: Tensor) -> Tensor:
        rows, columns = weights.shape
        spare = -columns % self.group_size
        grouped = torch.nn.functional.pad(weights, (0, spare)).reshape(rows, -1, self.group_size)
        step = grouped.abs().amax(dim=-1, keepdim=True) / self.values.abs().max()
        step = torch.where(step > 0, step, 1)
        x = grouped / step
        middles = (self.values[:-1] + self.values[1:]) / 2
        rounded = x + (self.values[torch.bucketize(x.detach(), middles)] - x).detach()
        return (rounded * step).flatten(1)[:, :columns]


def learn_value_matrices(
    value: _Floats,
    output: _Floats,
    value_inputs: _Floats,
    output_inputs: _Floats,
    *,
    heads: int,
    kv_heads: int,
    number_format: ValueFormat,
    group_size: int,
    steps: int = 200,
    rate: float = 0.01,
    share: float = 0.1,
) -> npt.NDArray[np.float64]:
    """Return a matrix for every head of values, for :func:`transform_values`.

    Adam lowers the squared error that rounding makes of the attention's output: that of ``o_proj``
    itself, and that of ``v_proj`` as it comes through ``o_proj``, as if each token saw itself only.
    Elements off the diagonal take part one band after another, times a small share, so that the
    matrices stay dominated by their diagonals and can be inverted. The best of all steps is
    returned, the identity among them.

    Parameters
    ----------
    value : float array, shape (kv_heads * head_size, K)
    output : float array, shape (N, heads * head_size)
    value_inputs, output_inputs : float arrays, shape (M, K) and (M, heads * head_size)
        Calibration inputs of the two layers.
    heads, kv_heads : int
    number_format : ValueFormat
        What the layers are going to be quantised to.
    group_size : int
    steps : int
    rate : float
        Learning rate.
    share : float
        Factor of the elements off the diagonal.

    Source
    ------
    Ma et al., AffineQuant, ICLR 2024, sections 3.2 and 3.3: gradual mask.
    """
    v, o, x, m = (
        torch.from_numpy(np.ascontiguousarray(item, dtype=np.float64))
        for item in (value, output, value_inputs, output_inputs)
    )
    values = sorted(number_format.values[code] for code in usable_codes(number_format))
    rounding = _Rounding(torch.tensor(values, dtype=torch.float64), group_size)
    size = len(v) // kv_heads
    repeats = heads // kv_heads

    def loss(matrices: Tensor) -> Tensor:
        shared = matrices.repeat_interleave(repeats, dim=0)
        inverses = torch.linalg.inv(shared)
        moved_v = (matrices @ v.reshape(kv_heads, size, -1)).flatten(0, 1)
        parts = o.reshape(len(o), heads, size).transpose(0, 1) @ inverses
        moved_o = parts.transpose(0, 1).flatten(1)
        tokens = (m.reshape(len(m), heads, 1, size) @ shared.transpose(1, 2)).flatten(1)
        from_output = (rounding(moved_o) - moved_o) @ tokens.T / len(m) ** 0.5
        lost = (rounding(moved_v) - moved_v).reshape(kv_heads, size, -1)
        seen = lost.repeat_interleave(repeats, dim=0).flatten(0, 1)
        from_value = moved_o @ (seen @ x.T) / len(x) ** 0.5
        return from_output.square().sum() + from_value.square().sum()

    places = torch.arange(size)
    distances = (places[:, None] - places).abs()
    learned = torch.eye(size, dtype=torch.float64).repeat(kv_heads, 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([learned], lr=rate)
    best, least = learned.detach().clone(), torch.inf
    for step in range(steps + 1):
        band = size * step // max(steps, 1)
        mask = torch.where(distances == 0, 1.0, torch.where(distances <= band, share, 0.0))
        matrices = learned * mask
        error = loss(matrices)
        if float(error.detach()) < least:
            best, least = matrices.detach().clone(), float(error.detach())
        if step < steps:
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    return best.numpy()
