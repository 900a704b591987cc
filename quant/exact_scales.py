"""Float scales as integers times a power of two, without any rounding."""

import numpy as np
import numpy.typing as npt

from ..formats.number_format import MAX_SCALE_WIDTH

__all__ = ["exact_scales"]

# Exponents that a row scale of float32 can have as a power of two, subnormal ones too.
_LOWEST, _HIGHEST = -149, 127


def exact_scales(
    scales: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], int]:
    """Write each row's scales as integers times one power of two.

    The power is the largest that all scales of the row are multiples of, so that the integers are
    as small as they can be.

    Parameters
    ----------
    scales : float array, shape (N, G, C)
        Finite; zero and negative ones are allowed.

    Returns
    -------
    integers : int32 array, shape (N, G, C)
    row_scales : float32 array, shape (N,)
        Powers of two; 0 for a row of zeros.
    scale_width : int
        Magnitude bits of the largest integer, at least 1.

    Raises
    ------
    :exc:`ValueError`
        If a scale is not finite, or a row's scales lie so far apart that an integer would need more
        than 31 bits; the sentence names the first such row.
    """
    if not np.isfinite(scales).all():
        row = int(np.flatnonzero(~np.isfinite(scales).all(axis=(1, 2)))[0])
        raise ValueError(f"Scales must be finite; row {row} has NaN or infinity")
    fractions, exponents = np.frexp(scales.astype(np.float64))
    significands = np.ldexp(fractions, 53).astype(np.int64)  # exact: float64 has 53 bits
    # Position of the lowest bit that is 1: a number and its negative have only that in common.
    lowest_bits = np.frexp((significands & -significands).astype(np.float64))[1] - 1
    lowest = np.where(significands != 0, exponents - 53 + lowest_bits, 2000)
    steps = lowest.min(axis=(1, 2))
    is_zero = steps == 2000
    steps = np.where(is_zero, 0, np.minimum(steps, _HIGHEST))
    highest = np.where(significands != 0, exponents, -2000).max(axis=(1, 2))
    widths = np.where(is_zero, 1, highest - steps)
    wrong = (widths > MAX_SCALE_WIDTH) | (steps < _LOWEST)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"Scales of row {row} need {int(widths[row])} bits as integers times a power of two, "
            f"2^{int(steps[row])}; at most {MAX_SCALE_WIDTH} bits and 2^{_LOWEST} can be had, so "
            f"the layer cannot be taken over without rounding"
        )
    integers = np.ldexp(scales.astype(np.float64), -steps[:, None, None]).astype(np.int32)
    row_scales = np.where(is_zero, 0, np.ldexp(1.0, steps)).astype(np.float32)
    return integers, row_scales, max(1, int(np.abs(integers.astype(np.int64)).max()).bit_length())
