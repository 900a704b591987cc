"""One output of the golden model taken apart: every integer between activations and row sum."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..formats import Numerics, QuantizedMatrix
from .activations import align

__all__ = ["GroupTrace", "OutputTrace", "trace_output"]


@dataclass(frozen=True)
class GroupTrace:
    """What one group adds to a row's sum.

    Parameters
    ----------
    planes : tuple of int
        Plane sums ``D_p``: the activations times the digits of each plane of the group's format.
    activations : int
        Sum of the group's aligned activations.
    total : int
        The group's share of the row sum, its scales applied.
    """

    planes: tuple[int, ...]
    activations: int
    total: int


@dataclass(frozen=True)
class OutputTrace:
    """The integers that lead to one output, exact.

    Parameters
    ----------
    nonfinite : bool
        Whether the token holds a NaN or an infinity; its integers are then 0.
    exponent : int
        Binary exponent of one step of the aligned activations.
    activations : tuple of int
        Aligned activations, K of them.
    groups : tuple of GroupTrace
        In the order of the columns.
    total : int
        The row sum ``Y``.
    """

    nonfinite: bool
    exponent: int
    activations: tuple[int, ...]
    groups: tuple[GroupTrace, ...]
    total: int


def trace_output(
    matrix: QuantizedMatrix, numerics: Numerics, x: npt.NDArray, row: int
) -> OutputTrace:
    """Compute one row sum by planes, in Python's integers, and keep what is on the way.

    It shares nothing with :class:`GoldenModel` but the activations' alignment, so that each is a
    check of the other.

    Parameters
    ----------
    matrix : QuantizedMatrix
        The layer.
    numerics : Numerics
        Activation type and width.
    x : array of the activation type, shape (K,)
        One token; a NaN or an infinity flags it, as in hardware.
    row : int
        Row of the matrix, 0 to N - 1.

    Returns
    -------
    OutputTrace

    Raises
    ------
    :exc:`ValueError`
        If the token is not of that type and length, there is no such row, or the layer has
        outliers, for which there are no planes.

    Source
    ------
    docs/arithmetic.md, sections 1 to 3.
    """
    if x.shape != (matrix.columns,):
        raise ValueError(f"A token must have {matrix.columns} elements, not shape {x.shape}")
    if not 0 <= row < matrix.rows:
        raise ValueError(f"Row must be in 0..{matrix.rows - 1}, not {row!r}")
    if matrix.outliers is not None:
        raise ValueError("A layer with outliers has no trace: engines have no path for them")
    tokens = align(matrix.arrange(x[None]), numerics, nonfinite="nan")
    aligned = tokens.X[0].tolist()
    size = matrix.group_size
    groups = tuple(
        _trace_group(matrix, row, group, aligned[group * size : (group + 1) * size])
        for group in range(matrix.groups)
    )
    return OutputTrace(
        nonfinite=bool(tokens.nonfinite[0]),
        exponent=int(tokens.exponent[0]),
        activations=tuple(aligned),
        groups=groups,
        total=sum(group.total for group in groups),
    )


def _trace_group(matrix: QuantizedMatrix, row: int, group: int, aligned: list[int]) -> GroupTrace:
    item = matrix.members[matrix.format_ids[row, group]]
    scales: list[int] = matrix.scales[row, group].tolist()
    first = group * matrix.group_size
    codes = matrix.codes[row, first : first + len(aligned)].tolist()
    planes, total = [], 0
    for plane in item.planes:
        digits = plane.digits(item.code_width).tolist()
        planes.append(sum(digits[code] * x for code, x in zip(codes, aligned, strict=True)))
        total += scales[plane.scale_index] * plane.coefficient * planes[-1]
    if item.has_zero_point:
        value = int(item.weight_table(np.ones(1, np.int64))[matrix.zeros[row, group]])
        total -= scales[0] * value * sum(aligned)
    return GroupTrace(tuple(planes), sum(aligned), total)
