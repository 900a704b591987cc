"""The trace of a loss's Hessian, from products with it alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["hessian_traces"]


def hessian_traces(
    loss: Tensor, parameters: Sequence[Tensor], *, probes: int = 32, seed: int = 0
) -> list[float]:
    """Estimate the trace of the Hessian of a loss for each of some parameters.

    Every probe is a vector of random signs for all parameters at once, and costs two passes through
    the graph of the loss. A trace times the squared error of its parameter estimates what the loss
    gains, and ``importance`` of a calibration file can be made of it.

    Parameters
    ----------
    loss : Tensor
        A number, with its graph.
    parameters : sequence of Tensor
    probes : int
    seed : int
        Of the signs.

    Source
    ------
    Hutchinson, 1989; for bits of layers: Xu et al., Mixed Precision Low-bit Quantization of Neural
    Network Language Models, 2112.11438, section 3.
    """
    gradients = torch.autograd.grad(loss, list(parameters), create_graph=True)
    generator = torch.Generator().manual_seed(seed)
    totals = [0.0] * len(gradients)
    for _ in range(probes):
        signs = [
            (torch.randint(0, 2, item.shape, generator=generator) * 2 - 1).to(item)
            for item in gradients
        ]
        moved = torch.autograd.grad(
            [(g * v).sum() for g, v in zip(gradients, signs, strict=True)],
            list(parameters),
            retain_graph=True,
        )
        for index, (v, hv) in enumerate(zip(signs, moved, strict=True)):
            totals[index] += float((v * hv).sum()) / probes
    return totals
