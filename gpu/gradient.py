"""Results that have no gradient say so, and only when somebody asks for one."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["without_gradient"]


def without_gradient(y: Tensor, *inputs: Tensor | None) -> Tensor:
    """Return a result whose gradient with respect to its inputs is refused and not dropped.

    Outputs are made of bits, which autograd does not see: a sum over them would leave the inputs
    without a gradient, in silence. Graphs stay whole, forward passes of unfrozen models work, and
    where nothing asks for a gradient ``y`` comes back as it is.

    Parameters
    ----------
    y : tensor
        Computed from the inputs, without a gradient.
    inputs : tensors, or None
        What it was computed from.

    Returns
    -------
    tensor as ``y``
        Going backward through it is a :exc:`RuntimeError`.
    """
    if torch.is_grad_enabled():
        for tensor in inputs:
            if tensor is not None and tensor.requires_grad:
                return torch.ops.lutra.without_gradient(y.detach(), tensor)
    return y


@torch.library.custom_op("lutra::without_gradient", mutates_args=())
def _without_gradient(y: Tensor, x: Tensor) -> Tensor:
    return y.clone()


@_without_gradient.register_fake
def _(y, x):
    return torch.empty_like(y)


# An operator, so that a compiler can trace the way back without taking it.
@torch.library.custom_op("lutra::refuse_gradient", mutates_args=())
def _refuse_gradient(gradient: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    raise RuntimeError(
        "There is no gradient through a quantised layer of lutra.gpu; run it under "
        "torch.no_grad(), or detach its inputs"
    )


@_refuse_gradient.register_fake
def _(gradient, shape, dtype):
    return gradient.new_empty(shape, dtype=dtype)


def _remember(ctx, inputs, output):
    ctx.shape, ctx.dtype = inputs[1].shape, inputs[1].dtype


def _backward(ctx, gradient):
    return None, torch.ops.lutra.refuse_gradient(gradient, ctx.shape, ctx.dtype)


_without_gradient.register_autograd(_backward, setup_context=_remember)
