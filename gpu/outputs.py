"""Section 4 of the arithmetic contract in torch: exact sums become floating-point numbers."""

import torch
from torch import Tensor

from ..formats import FLOATS
from .dtypes import BIT_DTYPES, DTYPES

__all__ = ["convert_output", "with_one_nan"]

_FLOAT32 = FLOATS["float32"]
_WIDTH = _FLOAT32.fraction_width
_SIGN = -(1 << (_FLOAT32.width - 1))


def convert_output(
    sums: Tensor,
    exponent: Tensor,
    significand: Tensor,
    row_exponent: Tensor,
    output: str,
    nonfinite: Tensor,
) -> Tensor:
    """Scale exact sums and round them: to float32, by the row scale, then to the output type.

    Parameters
    ----------
    sums : int64 tensor, shape (M, N)
        ``Y`` of the contract.
    exponent : int32 tensor, shape (M,)
        Exponent of each token's step.
    significand, row_exponent : float32 and int32 tensor, shape (N,)
        The row scales, as :func:`split_row_scales` has them.
    output : str
        ``float32``, ``float16`` or ``bfloat16``.
    nonfinite : bool tensor, shape (M,)
        Tokens whose outputs are all the quiet NaN.

    Returns
    -------
    tensor of the output type, shape (M, N)

    Source
    ------
    docs/arithmetic.md, section 4.
    """
    product = sums.to(torch.float32) * significand
    bits = product.view(torch.int32)
    field = (bits >> _WIDTH & _FLOAT32.exponent_mask) + exponent[:, None] + row_exponent
    field = field.clamp(0, _FLOAT32.exponent_mask)
    in_range = (field > 0) & (field < _FLOAT32.exponent_mask)
    scaled = torch.where(in_range, bits & ((1 << _WIDTH) - 1), 0)
    scaled |= field << _WIDTH | bits & _SIGN
    # The only exact zeros: nothing above underflows.
    scaled = torch.where(product == 0, 0, scaled)
    result = scaled.view(torch.float32).to(DTYPES[output])
    return _with_nan(result, nonfinite[:, None], output)


def with_one_nan(y: Tensor, output: str) -> Tensor:
    """Give every NaN the bits of the contract's: what processors make of one differs."""
    return _with_nan(y, y.isnan(), output)


def _with_nan(y: Tensor, where: Tensor, output: str) -> Tensor:
    bits = y.view(BIT_DTYPES[output])
    return torch.where(where, FLOATS[output].quiet_nan, bits).view(y.dtype)
