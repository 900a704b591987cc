"""Section 5 of the arithmetic contract in torch: float32 steps of the host after a product.

A processor takes them in float64, where a product of two float32 numbers is exact and rounding a
sum of two twice is as rounding it once: there are no subnormals for it to flush, as
:func:`torch.set_flush_denormal` has it do.
"""

import torch
from torch import Tensor

from .dtypes import dtype_name
from .gradient import without_gradient
from .outputs import with_one_nan
from .rounding import narrow, widen

__all__ = ["add_bias", "scale_tokens"]


def scale_tokens(y: Tensor, token_scales: Tensor) -> Tensor:
    """Multiply a float32 result by one scale a token, with one rounding half to even.

    Parameters
    ----------
    y : float32 tensor, shape (M, N)
    token_scales : float32 tensor, shape (M,)
        Finite; that is not checked, since it would wait for the device.

    Returns
    -------
    float32 tensor, shape (M, N)

    Raises
    ------
    :exc:`ValueError`
        If a type or shape is not as stated.
    """
    _check(y, token_scales, "Token scales", y.shape[:1])
    scales = token_scales[:, None]
    product = narrow(widen(y) * widen(scales)) if y.device.type == "cpu" else y * scales
    return without_gradient(with_one_nan(product, "float32"), y, token_scales)


def add_bias(y: Tensor, bias: Tensor) -> Tensor:
    """Add one number a row of weights to a float32 result, with one rounding half to even.

    Parameters
    ----------
    y : float32 tensor, shape (M, N)
    bias : float32 tensor, shape (N,)
        Finite.

    Returns
    -------
    float32 tensor, shape (M, N)

    Raises
    ------
    :exc:`ValueError`
        If a type or shape is not as stated.
    """
    _check(y, bias, "Bias", y.shape[1:])
    total = narrow(widen(y) + widen(bias)) if y.device.type == "cpu" else y + bias
    return without_gradient(with_one_nan(total, "float32"), y, bias)


def _check(y: Tensor, factors: Tensor, name: str, shape: torch.Size) -> None:
    if y.dtype != torch.float32 or y.dim() != 2:
        raise ValueError(
            f"Outputs must be a matrix of float32, "
            f"not {dtype_name(y.dtype)} of shape {tuple(y.shape)}"
        )
    if factors.dtype != torch.float32 or factors.shape != shape:
        raise ValueError(
            f"{name} must be float32 of shape {tuple(shape)}, "
            f"not {dtype_name(factors.dtype)} of shape {tuple(factors.shape)}"
        )
