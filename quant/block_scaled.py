"""Blocks whose scales are small floats themselves: powers of two, or E4M3 under a global scale."""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix, ValueFormat
from .exact_scales import exact_scales
from .value_grid import ValueGrid

__all__ = ["is_plain_value", "microscaling", "nvidia_scaling"]

_Floats = npt.NDArray[np.float32]

_E4M3_PEAK = 448
_E4M3_STEP_BITS = 9  # every E4M3 number is an integer times 2^-9
_ROWS_AT_ONCE = 256


def is_plain_value(family: Family) -> bool:
    """Whether a family is one value format without a zero-point, as these methods take."""
    only = family.members[0]
    return len(family.members) == 1 and isinstance(only, ValueFormat) and not only.has_zero_point


def microscaling(
    weights: _Floats, family: Family, group_size: int, scale_width: int
) -> QuantizedMatrix:
    """Quantise with a power of two for each group, as MX formats have.

    The exponent is ``floor(log2(max|w|)) - floor(log2(largest value))``; what the largest value is
    too small for is clipped to it. Of two values as near the one with the even code is taken, as
    ``roundTiesToEven``. Exponents of a row that lie more than ``scale_width - 1`` below
    its largest are raised to there: MX keeps 8 bits of them, and a group that far below the others
    of its row is next to nothing.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        One value format without a zero-point.
    group_size : int
        1 to K; MX has 32.
    scale_width : int
        Magnitude bits of a group scale.

    Raises
    ------
    :exc:`ValueError`
        If the family is not such a format.

    Source
    ------
    OCP Microscaling Formats 1.0, section 6.3.
    """
    grid = _plain_grid(family, "mx")
    peaks = _group_peaks(weights, group_size)
    reach = int(grid.reach[0])
    exponents = np.frexp(peaks)[1] - reach.bit_length()
    largest = np.where(peaks > 0, exponents, -1000).max(axis=1, keepdims=True)
    exponents = np.maximum(exponents, largest - (scale_width - 1))
    # A row scale is a float32: what lies below its subnormal numbers is 0.
    exponents = np.maximum(exponents, -149)
    scales = np.where(peaks > 0, np.ldexp(1.0, exponents), 0.0)
    integers, row_scales, _ = exact_scales(scales[..., None])
    return _matrix(weights, family, grid, group_size, scales, integers, row_scales, scale_width)


def nvidia_scaling(
    weights: _Floats, family: Family, group_size: int, scale_width: int
) -> QuantizedMatrix:
    """Quantise with an E4M3 number for each group, under one float32 for the whole matrix.

    ``global = max|W| / (448 * peak)`` in float32, and a group's scale is ``max|w| / (peak *
    global)``, rounded to E4M3, half to even. Weights are divided by what the rounded scale stands
    for, and of two values as near the one with the even code is taken. As integers E4M3 numbers
    have 18 bits, so that is the matrix's scale width, whatever is asked for.

    Parameters
    ----------
    weights, family, group_size
        As for :func:`microscaling`; NVFP4 has E2M1 in groups of 16.
    scale_width : int
        Not used.

    Raises
    ------
    :exc:`ValueError`
        If the family is not one value format without a zero-point.

    Source
    ------
    NVIDIA, NVFP4, 2025; Model Optimizer's weight_scale_2 is the global scale.
    """
    grid = _plain_grid(family, "nv")
    reach = float(grid.reach[0])
    peaks = _group_peaks(weights, group_size).astype(np.float64)
    whole = np.float32(peaks.max() / (_E4M3_PEAK * reach))
    divisor = float(whole) if whole > 0 else 1.0
    small = np.minimum(peaks / (reach * divisor), _E4M3_PEAK).astype(ml_dtypes.float8_e4m3fn)
    factors = small.astype(np.float64)
    integers = np.ldexp(factors, _E4M3_STEP_BITS).astype(np.int32)[..., None]
    row_scales = np.full(len(weights), np.ldexp(whole, -_E4M3_STEP_BITS), dtype=np.float32)
    scales = factors * divisor if whole > 0 else np.zeros_like(factors)
    return _matrix(weights, family, grid, group_size, scales, integers, row_scales, 18)


def _plain_grid(family: Family, method: str) -> ValueGrid:
    if not is_plain_value(family):
        raise ValueError(
            f"Method {method!r} takes one format without a zero-point, not {family.name!r}"
        )
    return ValueGrid(family.members)


def _group_peaks(weights: _Floats, group_size: int) -> _Floats:
    starts = np.arange(0, weights.shape[1], group_size)
    return np.asarray(np.maximum.reduceat(np.abs(weights), starts, axis=1))


def _even_codes(grid: ValueGrid, quotients: _Floats) -> npt.NDArray[np.uint8]:
    """Return codes of the nearest values; half way between two, the code that is even.

    Weights of bfloat16 have so few bits that one in some dozens is half way. The lowest bit of a
    code is that of a float's mantissa, or of an integer.
    """
    above = np.nextafter(quotients, np.float32(np.inf))
    lower, upper = (grid.codes[grid.slots(some, 0)] for some in (quotients, above))
    return np.where(lower & 1, upper, lower)


def _matrix(
    weights: _Floats,
    family: Family,
    grid: ValueGrid,
    group_size: int,
    scales: npt.NDArray[np.float64],
    integers: npt.NDArray[np.int32],
    row_scales: _Floats,
    scale_width: int,
) -> QuantizedMatrix:
    """Give every weight the value nearest to it in steps of its group's scale, ties to even."""
    rows, columns = weights.shape
    codes = np.empty((rows, columns), dtype=np.uint8)
    for start in range(0, rows, _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        steps = np.repeat(np.where(scales[some] > 0, scales[some], np.inf), group_size, axis=1)
        quotients: Any = (weights[some] / steps[:, :columns]).astype(np.float32)
        codes[some] = _even_codes(grid, quotients)
    return QuantizedMatrix(
        members=family.members,
        group_size=group_size,
        codes=codes,
        format_ids=np.zeros(scales.shape, dtype=np.uint8),
        scales=integers,
        zeros=np.zeros(scales.shape, dtype=np.uint8),
        row_scales=row_scales,
        scale_width=scale_width,
    )
