"""Uniform integers as binary codes, exactly."""

import numpy as np

from ..formats import NumberFormat, QuantizedMatrix, ValueFormat, family

__all__ = ["uniform_to_bcq"]


def uniform_to_bcq(matrix: QuantizedMatrix, *, scale_width: int | None = None) -> QuantizedMatrix:
    """Rewrite integers of B bits as B sign planes and an offset, with the same weights.

    With ``u = sum_i 2**i * c_i`` the code as an unsigned number, ``c_i = (b_i + 1) / 2``, and ``z``
    what is subtracted from it, ``2 * scale * (u - z)`` is
    ``sum_i scale * 2**i * b_i + scale * (2**B - 1 - 2 * z)``. The factor of 2 is taken from the row
    scales: :meth:`QuantizedMatrix.integer_weights` doubles, :meth:`QuantizedMatrix.dequantize`
    returns the same numbers.

    Parameters
    ----------
    matrix : QuantizedMatrix
        Of one format, ``intB`` or ``intB_asym``, with B such that the catalogue has ``bcqB_asym``.
    scale_width : int, optional
        Magnitude bits of the new scales, 1 to 16; by default those of ``matrix``. Scales grow by B
        bits at most.

    Raises
    ------
    :exc:`ValueError`
        If the format is another, or the new scales do not fit ``scale_width``.

    Source
    ------
    Park et al., LUT-GEMM, ICLR 2024, section 2.3, and its authors' ``convert_bcq_format``.
    """
    if len(matrix.members) != 1:
        raise ValueError("Only a matrix of a single integer format is uniform, not a mixture")
    uniform = matrix.members[0]
    flip, lowest = _unsigned(uniform)
    planes = uniform.code_width
    target = family(f"bcq{planes}_asym").members[0]

    factors = matrix.scales[:, :, 0].astype(np.int64)
    subtracted = np.full(factors.shape, -lowest, dtype=np.int64)
    if uniform.has_zero_point:
        subtracted = matrix.zeros.astype(np.int64)
    columns = [factors << plane for plane in range(planes)]
    columns.append(factors * ((1 << planes) - 1 - 2 * subtracted))
    scales = np.stack(columns, axis=2)

    width = matrix.scale_width if scale_width is None else scale_width
    needed = max(1, int(np.abs(scales).max()).bit_length())
    if needed > width:
        hint = (
            f"scale_width={needed} would do"
            if needed <= 16
            else f"quantise with a scale width of {matrix.scale_width - needed + 16}"
        )
        raise ValueError(f"The converted scales do not fit a scale width of {width}; {hint}")
    halves = matrix.row_scales / np.float32(2)
    if (halves * 2 != matrix.row_scales).any():
        raise ValueError("Row scales must be normal float32 numbers to be halved exactly")
    return QuantizedMatrix(
        members=(target,),
        group_size=matrix.group_size,
        codes=matrix.codes ^ np.uint8(flip),
        format_ids=matrix.format_ids,
        scales=scales.astype(np.int32),
        zeros=np.zeros_like(matrix.zeros),
        row_scales=halves,
        scale_width=width,
        bias=matrix.bias,
    )


def _unsigned(item: NumberFormat) -> tuple[int, int]:
    """Return ``flip`` and ``lowest``, with ``(code ^ flip) + lowest`` the value of each code."""
    if isinstance(item, ValueFormat):
        lowest = min(item.values)
        for flip in (0, 1 << (item.code_width - 1)):
            if all((code ^ flip) + lowest == value for code, value in enumerate(item.values)):
                return flip, lowest
    raise ValueError(f"Format {item.name!r} is not uniform; convert intB or intB_asym instead")
