"""A layer of integers as other tools have them: unsigned codes and zero-points."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix
from .exact_floats import float_scales, narrowest, rounded_scales

__all__ = ["IntegerLayer"]

_INTEGERS = re.compile(r"int([2-8])(_asym)?")


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """Weights ``scales * (codes - zeros)``, columns in the order of the tokens' elements.

    Parameters
    ----------
    bits : int
    group_size : int
        K where a row is one group.
    symmetric : bool
        Whether every zero-point is in the middle, ``2**(bits - 1)``.
    codes : uint8 array, shape (N, K)
    zeros : uint8 array, shape (N, G)
    scales : float16, bfloat16 or float32 array, shape (N, G)
    groups : int32 array, shape (K,)
        Group of each column.
    ordered : bool
        Whether these are other than a column's place over the group size.
    bias : float array, shape (N,), or None
    scale_change : float
        By how much of itself a scale was changed at most, by rounding.
    """

    bits: int
    group_size: int
    symmetric: bool
    codes: npt.NDArray[np.uint8]
    zeros: npt.NDArray[np.uint8]
    scales: npt.NDArray
    groups: npt.NDArray[np.int32]
    ordered: bool
    bias: npt.NDArray | None
    scale_change: float

    @classmethod
    def of(cls, matrix: QuantizedMatrix, scale_type: str | None = None) -> "IntegerLayer":
        """Take a matrix apart; round its scales to a type where one is named.

        Raises
        ------
        :exc:`ValueError`
            If it is not of one integer format, or its scales do not fit floats.
        """
        names = [item.name for item in matrix.members]
        found = _INTEGERS.fullmatch(names[0])
        if len(names) > 1 or found is None:
            raise ValueError(
                f"Formats {', '.join(names)} must be one of int2 to int8 or int2_asym to int8_asym"
            )
        if matrix.outliers is not None:
            raise ValueError("There must be no outliers")
        bits, symmetric = int(found[1]), found[2] is None
        half = np.uint8(1 << (bits - 1))
        codes = matrix.codes ^ half if symmetric else matrix.codes
        groups = (np.arange(matrix.columns) // matrix.group_size).astype(np.int32)
        order = matrix.column_order
        if order is not None:
            back = np.argsort(order)
            codes, groups = codes[:, back], groups[back]
        if scale_type is None:
            scales, change = float_scales(matrix), 0.0
        else:
            scales, change = rounded_scales(matrix, scale_type)
        return cls(
            bits=bits,
            group_size=min(matrix.group_size, matrix.columns),
            symmetric=symmetric,
            codes=codes,
            zeros=np.full_like(matrix.zeros, half) if symmetric else matrix.zeros,
            scales=scales,
            groups=groups,
            ordered=order is not None,
            bias=None if matrix.bias is None else narrowest(matrix.bias),
            scale_change=change,
        )

    @property
    def rows(self) -> int:
        """Output features, N."""
        return self.codes.shape[0]

    @property
    def columns(self) -> int:
        """Input features, K."""
        return self.codes.shape[1]

    @property
    def stated_group_size(self) -> int | None:
        """The group size, None for whole rows."""
        return None if self.scales.shape[1] == 1 else self.group_size
