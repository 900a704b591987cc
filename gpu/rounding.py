"""Between float32 and float64 without subnormals in float arithmetic, which torch may flush."""

import torch
from torch import Tensor

from ..formats import FLOATS

__all__ = ["narrow", "narrow_to_odd", "widen"]

_FLOAT32 = FLOATS["float32"]
_WIDTH = _FLOAT32.fraction_width
# Binary exponents of the smallest normal number and of a step below it.
_SMALLEST = 1 - _FLOAT32.bias
_STEP = _SMALLEST - _WIDTH


def widen(x: Tensor) -> Tensor:
    """Return float32 numbers as float64, exactly."""
    magnitude = x.view(torch.int32) & ((1 << _WIDTH + 8) - 1)
    wide = x.to(torch.float64)
    small = (magnitude.to(torch.float64) * 2.0**_STEP).copysign(wide)
    return torch.where(magnitude >> _WIDTH == 0, small, wide)


def narrow(x: Tensor) -> Tensor:
    """Round float64 numbers to float32, half to even."""
    normal = x.to(torch.float32)
    # Steps of a subnormal are its bits, and one too many is the smallest normal number.
    steps = (x.abs().clamp(max=2.0**_SMALLEST) * 2.0**-_STEP).round().to(torch.int32)
    sign = normal.view(torch.int32) & -(1 << _FLOAT32.width - 1)
    small = (steps | sign).view(torch.float32)
    return torch.where(x.abs() < 2.0**_SMALLEST, small, normal)


def narrow_to_odd(x: Tensor) -> Tensor:
    """Round float64 numbers to float32 so that rounding once more, half to even, is as one.

    What is not exact is cut off and gets an odd last bit: that says on which side of a tie it was
    to any type of at most 22 bits of significand, such as float16 and bfloat16.
    """
    near = narrow(x)
    wide = widen(near)
    bits = near.view(torch.int32)
    bits = (bits - (wide.abs() > x.abs()).to(torch.int32)) | (wide != x).to(torch.int32)
    return bits.view(torch.float32)
