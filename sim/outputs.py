"""Section 4 of the arithmetic contract: exact sums become floating-point numbers."""

import numpy as np
import numpy.typing as npt

from ..formats import FLOATS, round_to_bfloat16
from .dtypes import DTYPES

__all__ = ["convert_output"]

_FLOAT32 = FLOATS["float32"]
_FRACTION_MASK = (1 << _FLOAT32.fraction_width) - 1


def convert_output(
    sums: npt.NDArray[np.int64],
    exponent: npt.NDArray[np.int32],
    row_scales: npt.NDArray[np.float32],
    output: str,
    nonfinite: npt.NDArray[np.bool_],
) -> npt.NDArray:
    """Scale exact sums and round them: to float32, by the row scale, then to the output type.

    Three roundings at most, each half to even. Magnitudes below 2**-126 become a signed zero
    before the last; above the range is infinity; an exact zero is +0.

    Parameters
    ----------
    sums : int64 array, shape (M, N)
        ``Y`` of the contract.
    exponent : int32 array, shape (M,)
        Exponent of each token's step.
    row_scales : float32 array, shape (N,)
        Finite.
    output : str
        ``float32``, ``float16`` or ``bfloat16``.
    nonfinite : bool array, shape (M,)
        Tokens whose outputs are all the quiet NaN.

    Returns
    -------
    array of the output type, shape (M, N)

    Raises
    ------
    :exc:`ValueError`
        If the output type is none of these.

    Source
    ------
    docs/arithmetic.md, section 4.
    """
    if output not in FLOATS:
        raise ValueError(f"Output type must be one of {', '.join(FLOATS)}, not {output!r}")
    significand, row_exponent = _normalise(row_scales)
    # Both factors are 0 or at least 1 in magnitude and the product is below 2**64, so neither
    # rounding meets a subnormal or the end of the range, whatever the processor's mode.
    product = sums.astype(np.float32) * significand
    bits = product.view(np.int32)
    field = bits >> _FLOAT32.fraction_width & _FLOAT32.exponent_mask
    field = np.clip(field + exponent[:, None] + row_exponent, 0, _FLOAT32.exponent_mask)
    in_range = (field > 0) & (field < _FLOAT32.exponent_mask)
    scaled = np.where(in_range, bits & _FRACTION_MASK, 0)
    scaled |= field << _FLOAT32.fraction_width
    scaled |= bits & np.int32(-1 << 31)
    scaled[product == 0] = 0  # the only exact zeros: nothing above underflows
    result = _narrow(scaled.view(np.float32), output)
    if nonfinite.any():
        result.view(f"u{result.itemsize}")[nonfinite] = FLOATS[output].quiet_nan
    return result


def _normalise(
    row_scales: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Split scales into ``s * 2**t`` with ``1 <= |s| < 2``, subnormals too; both are 0 for 0."""
    bits = row_scales.view(np.uint32).astype(np.int64)
    magnitude = bits & 0x7FFFFFFF
    is_subnormal = magnitude < 1 << _FLOAT32.fraction_width
    fraction = magnitude & _FRACTION_MASK
    # Places that bring a subnormal's top bit to where the hidden bit of a normal number is.
    places = 1 + _FLOAT32.fraction_width - np.frexp(fraction.astype(np.float64))[1]
    fraction = np.where(is_subnormal, fraction << places, fraction) & _FRACTION_MASK
    field = np.where(is_subnormal, 1 - places, magnitude >> _FLOAT32.fraction_width)
    one = _FLOAT32.bias << _FLOAT32.fraction_width
    significand = (bits & 1 << 31 | one | fraction).astype(np.uint32).view(np.float32)
    is_zero = magnitude == 0
    return (
        np.where(is_zero, np.float32(0), significand),
        np.where(is_zero, 0, field - _FLOAT32.bias).astype(np.int32),
    )


def _narrow(x: npt.NDArray[np.float32], output: str) -> npt.NDArray:
    """Round float32 numbers without subnormals to the output type, half to even."""
    if output == "float32":
        return x
    if output == "bfloat16":
        return round_to_bfloat16(x).view(DTYPES["bfloat16"])
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(np.float16)
