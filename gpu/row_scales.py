"""Row scales, taken apart once when a layer is loaded."""

import numpy as np
import numpy.typing as npt

from ..formats import FLOATS

__all__ = ["split_row_scales"]

_FLOAT32 = FLOATS["float32"]


def split_row_scales(
    row_scales: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Split scales into ``s * 2**t`` with ``1 <= |s| < 2``; both are 0 for a scale of 0.

    Subnormal scales are normalised by their bits, since torch can be told to flush them.

    Parameters
    ----------
    row_scales : float32 array, shape (N,)
        Finite.

    Returns
    -------
    significand : float32 array, shape (N,)
        ``s``, with the sign of the scale.
    exponent : int32 array, shape (N,)
        ``t``, from -149 to 127.

    Source
    ------
    docs/arithmetic.md, section 4.
    """
    width = _FLOAT32.fraction_width
    bits = row_scales.view(np.uint32).astype(np.int64)
    field = bits >> width & _FLOAT32.exponent_mask
    fraction = bits & ((1 << width) - 1)
    # Places that bring a subnormal's top bit to where the hidden bit of a normal number is; frexp
    # of a small integer gives the position of its top bit.
    places = np.where(field > 0, 0, 1 + width - np.frexp(fraction.astype(np.float64))[1])
    sign = bits & 1 << (_FLOAT32.width - 1)
    significand = sign | _FLOAT32.bias << width | fraction << places & ((1 << width) - 1)
    is_zero = (field == 0) & (fraction == 0)
    exponent = np.maximum(field, 1) - places - _FLOAT32.bias
    return (
        np.where(is_zero, np.float32(0), significand.astype(np.uint32).view(np.float32)),
        np.where(is_zero, 0, exponent).astype(np.int32),
    )
