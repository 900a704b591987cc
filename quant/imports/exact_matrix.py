"""A quantised matrix from codes and float scales, without rounding."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...formats import NumberFormat, Outliers, QuantizedMatrix
from ..exact_scales import exact_scales

__all__ = ["exact_matrix"]


def exact_matrix(
    *,
    codes: npt.NDArray[np.uint8],
    members: NumberFormat | Sequence[NumberFormat],
    group_size: int,
    scales: npt.NDArray[np.floating],
    zeros: npt.NDArray[np.uint8] | None = None,
    format_ids: npt.NDArray[np.uint8] | None = None,
    column_order: npt.NDArray[np.int32] | None = None,
    outliers: Outliers | None = None,
    bias: npt.NDArray[np.float32] | None = None,
) -> QuantizedMatrix:
    """Build a matrix whose weights are those of float scales, exactly.

    A group whose weights are all zero does not constrain its row: where the row's scales spread too
    far for integers, such a group's scale is taken as zero. That is for formats of one scale; those
    of several are refused then.

    Parameters
    ----------
    codes : uint8 array, shape (N, K)
    members : NumberFormat or sequence of NumberFormat
        The format, or those that ``format_ids`` chooses from.
    group_size : int
        Columns of one group; beyond K, whole rows.
    scales : float array, shape (N, G) or (N, G, C)
        In the units of the format's definition: a weight is the scale times ``value *
        2**grid_exponent``.
    zeros : uint8 array, shape (N, G), optional
        Codes of zero-points; 0 by default.
    format_ids : uint8 array, shape (N, G), optional
    column_order : int32 array, shape (K,), optional
        Element of a token that each column of the codes multiplies.
    outliers : Outliers, optional
    bias : float32 array, shape (N,), optional

    Returns
    -------
    QuantizedMatrix

    Raises
    ------
    :exc:`ValueError`
        If a scale is NaN or infinite, a row's scales need more than 31 bits, or a shape or a range
        is not as stated.
    """
    formats = (members,) if isinstance(members, NumberFormat) else tuple(members)
    rows, columns = codes.shape
    group_size = min(group_size, columns)
    shape = (rows, -(-columns // group_size))
    if scales.shape[:2] != shape or scales.ndim not in (2, 3):
        raise ValueError(f"There must be {shape} groups of scales, not {scales.shape}")
    if format_ids is None:
        format_ids = np.zeros(shape, dtype=np.uint8)
    exponents = np.array([getattr(item, "grid_exponent", 0) for item in formats])
    wide = np.ldexp(scales.astype(np.float64).reshape(*shape, -1), exponents[format_ids][..., None])

    def build(integers, row_scales, scale_width) -> QuantizedMatrix:
        return QuantizedMatrix(
            members=formats,
            group_size=group_size,
            codes=codes,
            format_ids=format_ids,
            scales=integers,
            zeros=np.zeros(shape, dtype=np.uint8) if zeros is None else zeros,
            row_scales=row_scales,
            scale_width=scale_width,
            bias=bias,
            column_order=column_order,
            outliers=outliers,
        )

    try:
        return build(*exact_scales(wide))
    except ValueError:
        # Where a weight is a sum of several scales, one of 0 says nothing of them one by one.
        if not np.isfinite(wide).all() or wide.shape[2] > 1:
            raise
        # What the codes alone say: every scale is 1.
        ones = np.ones(wide.shape, dtype=np.int32)
        plain = build(ones, np.ones(rows, dtype=np.float32), 1)
        starts = np.arange(0, columns, group_size)
        used = np.logical_or.reduceat(plain.integer_weights() != 0, starts, axis=1)
        if used.all():
            raise
        return build(*exact_scales(np.where(used[..., None], wide, 0)))
