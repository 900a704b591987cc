"""Section 1 of the arithmetic contract in torch: activations become integers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..formats import FloatType, Numerics
from .dtypes import BIT_DTYPES, dtype_name

__all__ = ["ZERO_TOKEN", "AlignedTokens", "align", "check_finite", "check_tokens", "step_exponents"]

ZERO_TOKEN = -(1 << 15)
"""Exponent of an all-zero token where shards are still to be compared: below every other one."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedTokens:
    """Activations on a grid of one step a token: ``x[m, k]`` becomes ``X[m, k] * 2**exponent[m]``.

    Parameters
    ----------
    X : int64 tensor, shape (M, K)
        Integers, of at most :attr:`Numerics.peak` in magnitude; 0 for a flagged token.
    exponent : int32 tensor, shape (M,)
        Binary exponent of one step; 0 for an all-zero token, unless every token has the same.
    nonfinite : bool tensor, shape (M,)
        Tokens that hold a NaN or an infinity.
    """

    X: Tensor
    exponent: Tensor
    nonfinite: Tensor


def check_tokens(x: Tensor, numerics: Numerics, columns: int | None = None) -> None:
    """Refuse what is no matrix of activations.

    Raises
    ------
    :exc:`ValueError`
        If the type is not that of ``numerics``, the tensor has not two dimensions, or a token has
        not ``columns`` elements.
    """
    if x.dim() != 2 or dtype_name(x.dtype) != numerics.activation:
        raise ValueError(
            f"Activations must be a matrix of {numerics.activation}, "
            f"not {dtype_name(x.dtype)} of shape {tuple(x.shape)}"
        )
    if columns is not None and x.shape[1] != columns:
        raise ValueError(f"Activations must have {columns} elements a token, not {x.shape[1]}")


def check_finite(x: Tensor) -> None:
    """Refuse a NaN or an infinity. Waits for the device.

    Parameters
    ----------
    x : tensor, shape (M, K)

    Raises
    ------
    :exc:`ValueError`
        If there is one; the sentence names the first token and element.
    """
    if x.is_floating_point():
        found = (~torch.isfinite(x)).nonzero()
        if len(found):
            token, element = found[0].tolist()
            raise ValueError(
                f"Activations must be finite; "
                f"element {element} of token {token} is {x[token, element].item()}"
            )


def step_exponents(x: Tensor, numerics: Numerics) -> Tensor:
    """Return the exponent of one step of each token, for parts of tokens that will be combined.

    Where K is cut into shards, the largest over the shards (:func:`torch.maximum`, or an all-reduce
    with ``MAX``) is the exponent of the whole token.

    Parameters
    ----------
    x : tensor of the activation type, shape (M, K)

    Returns
    -------
    int32 tensor, shape (M,)
        ``ZERO_TOKEN`` for a token of zeros and one that is not finite, so that it decides nothing;
        the fixed exponent for int8 and ``exact``.
    """
    check_tokens(x, numerics)
    if not numerics.is_float or numerics.is_exact:
        fixed = numerics.exact_exponent if numerics.is_exact else 0
        return torch.full(x.shape[:1], fixed, dtype=torch.int32, device=x.device)
    magnitude, _ = _finite_magnitudes(x, numerics.float_type)
    return _shared_exponent(magnitude, numerics)


def align(x: Tensor, numerics: Numerics, exponent: Tensor | None = None) -> AlignedTokens:
    """Turn activations into integers, rounding half to even and limiting to the peak.

    A token with a NaN or an infinity is flagged, as hardware does; nothing waits for the device.
    Only bit fields are used.

    Parameters
    ----------
    x : tensor of the activation type, shape (M, K)
        int8, float16, bfloat16 or float32, as ``numerics`` has it.
    numerics : Numerics
        Activation type and width.
    exponent : int32 tensor, shape (M,), optional
        Exponents of the steps, none below a token's own, if the tokens are parts of longer ones;
        see :func:`step_exponents`.

    Returns
    -------
    AlignedTokens

    Raises
    ------
    :exc:`ValueError`
        If the tensor is not a matrix of that type.

    Source
    ------
    docs/arithmetic.md, section 1.
    """
    check_tokens(x, numerics)
    if not numerics.is_float:
        zeros = torch.zeros(x.shape[:1], dtype=torch.int32, device=x.device)
        return AlignedTokens(x.to(torch.int64), zeros, zeros.bool())
    float_type = numerics.float_type
    magnitude, flagged = _finite_magnitudes(x, float_type)
    significand, power = _decompose(magnitude, float_type)
    if numerics.is_exact:
        exponent = torch.full_like(flagged, numerics.exact_exponent, dtype=torch.int32)
        aligned = significand << (power - numerics.exact_exponent)
    else:
        if exponent is None:
            exponent = _shared_exponent(magnitude, numerics)
        exponent = torch.where(exponent == ZERO_TOKEN, 0, exponent)
        shift = power - exponent[:, None]
        # Two places beyond the significand already give 0, and wider shifts are undefined. Zeros,
        # the only elements of a token without an exponent, stay zeros under any shift.
        aligned = _shift_right_half_even(
            significand << shift.clamp(0, numerics.aligned_width),
            (-shift).clamp(0, float_type.fraction_width + 2),
        ).clamp(max=numerics.peak)
    negative = x.view(BIT_DTYPES[numerics.activation]) < 0
    return AlignedTokens(torch.where(negative, -aligned, aligned), exponent, flagged)


def _finite_magnitudes(x: Tensor, float_type: FloatType) -> tuple[Tensor, Tensor]:
    """Return bit patterns without sign, int64, 0 for a flagged token; and the flags."""
    # contiguous(): a view of the bits needs it, and arguments may be slices or transposed.
    bits = x.contiguous().view(BIT_DTYPES[float_type.name]).to(torch.int64)
    magnitude = bits & ((1 << float_type.width - 1) - 1)
    flagged = (magnitude >= float_type.infinity).any(dim=1)
    return magnitude.masked_fill(flagged[:, None], 0), flagged


def _decompose(magnitude: Tensor, float_type: FloatType) -> tuple[Tensor, Tensor]:
    """Split bit patterns without sign so that the value is ``significand * 2**power``."""
    field = magnitude >> float_type.fraction_width
    fraction = magnitude & ((1 << float_type.fraction_width) - 1)
    significand = fraction | field.clamp(max=1) << float_type.fraction_width
    return significand, field.clamp(min=1) - (float_type.bias + float_type.fraction_width)


def _shared_exponent(magnitude: Tensor, numerics: Numerics) -> Tensor:
    largest, power = _decompose(magnitude.amax(dim=1), numerics.float_type)
    # At most 24 bits, so exact as a float32, whose exponent field is the place of the top bit.
    top_bit = (largest.to(torch.float32).view(torch.int32) >> 23) - 127
    exponent = top_bit + power + 2 - numerics.aligned_width
    return torch.where(largest > 0, exponent, ZERO_TOKEN).to(torch.int32)


def _shift_right_half_even(value: Tensor, places: Tensor) -> Tensor:
    floor = value >> places
    rest = value - (floor << places)
    # Above half, or at half with an odd floor: adding the floor's last bit breaks the tie.
    return floor + (2 * rest + (floor & 1) > torch.ones_like(places) << places)
