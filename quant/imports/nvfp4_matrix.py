"""A quantised matrix of NVFP4: codes of E2M1, scales of E4M3 and one float32 for all."""

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix, member
from .exact_matrix import exact_matrix
from .scale_rows import scale_rows

__all__ = ["NVFP4_GROUP", "nvfp4_matrix"]

NVFP4_GROUP = 16


def nvfp4_matrix(
    codes: npt.NDArray[np.uint8],
    *,
    scales: npt.NDArray[np.float32],
    factor: np.float32,
    divides: bool,
    bias: npt.NDArray[np.float32] | None,
) -> tuple[QuantizedMatrix, bool]:
    """Build a matrix of weights ``fl(scales * factor) * code``, or ``fl(scales / factor) * code``.

    The scale is rounded to float32, as both formats define it, the weight is not. Where the scales
    of a row then lie too far apart for integers, those of all rows are taken as they are and the
    factor, or float32(1 / factor), is that of the rows: weights are then within two units of the
    last place of float32.

    Parameters
    ----------
    codes : uint8 array, shape (N, K)
    scales : float32 array, shape (N, G)
        Of E4M3.
    factor : float32
        Finite, not zero where it divides.
    divides : bool
    bias : float32 array, shape (N,), optional

    Returns
    -------
    matrix : QuantizedMatrix
    as_defined : bool
        Whether it is the first of the two.

    Raises
    ------
    :exc:`ValueError`
        If a scale becomes infinite, or too small for float32.
    """

    def build(values: npt.NDArray[np.float32]) -> QuantizedMatrix:
        return exact_matrix(
            codes=codes,
            members=member("float4_e2m1"),
            group_size=NVFP4_GROUP,
            scales=values,
            bias=bias,
        )

    with np.errstate(over="ignore"):  # what becomes infinite is refused with the scales
        rounded = scales / factor if divides else scales * factor
        common = np.float32(1) / factor if divides else factor
    try:
        return build(rounded), True
    except ValueError:
        if not np.isfinite(rounded).all() or not np.isfinite(common):
            raise
    return scale_rows(build(scales), common), False
