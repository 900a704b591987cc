"""From a function of a few groups to a whole quantised matrix, in parallel."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..formats import NumberFormat, QuantizedMatrix
from .float_scaled import FloatScaledMatrix

__all__ = ["GroupSearch", "QuantizedGroups", "quantize_groups", "search_groups"]

# Weights that one call takes: what it needs stays within a core's own cache.
_BLOCK_WEIGHTS = 1 << 17


@dataclass(frozen=True, slots=True)
class QuantizedGroups:
    """What a quantiser makes of some groups, each a column of what it was given.

    Parameters
    ----------
    codes : uint8 array, shape (length, count)
    format_ids : uint8 array, shape (count,)
    scales : float32 array, shape (C, count)
        Not yet split into two levels; 0 for a group of zeros.
    zeros : uint8 array, shape (count,)
    """

    codes: npt.NDArray[np.uint8]
    format_ids: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.uint8]


class GroupSearch(Protocol):
    """What quantises a few groups."""

    def __call__(
        self,
        weights: npt.NDArray[np.float32],
        factors: npt.NDArray[np.float64] | None = None,
        /,
    ) -> QuantizedGroups:
        """Quantise groups.

        Parameters
        ----------
        weights : float32 array, shape (length, count)
            Contiguous, one group a column.
        factors : float64 array, shape (length, count), optional
            What the squared error of each weight is multiplied by; all 1 by default.
        """
        ...


def quantize_groups(
    weights: npt.NDArray[np.float32],
    quantizer: GroupSearch,
    *,
    members: tuple[NumberFormat, ...],
    group_size: int,
    scale_width: int,
    column_factors: npt.NDArray[np.float64] | None = None,
) -> QuantizedMatrix:
    """Quantise every group of a matrix by itself, on all cores, and split its scales.

    Parameters
    ----------
    weights, quantizer, members, group_size, column_factors
        As for :func:`search_groups`.
    scale_width : int
        Magnitude bits of a group scale.
    """
    found = search_groups(
        weights,
        quantizer,
        members=members,
        group_size=group_size,
        column_factors=column_factors,
    )
    return found.split(scale_width)


def search_groups(
    weights: npt.NDArray[np.float32],
    quantizer: GroupSearch,
    *,
    members: tuple[NumberFormat, ...],
    group_size: int,
    column_factors: npt.NDArray[np.float64] | None = None,
) -> FloatScaledMatrix:
    """Quantise every group of a matrix by itself, on all cores; scales stay in float32.

    A shorter last group is handed over at its own length, so no quantiser sees padding.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    quantizer : callable
        See :data:`GroupSearch`.
    members : tuple of NumberFormat
        What the format ids index.
    group_size : int
        1 to K.
    column_factors : float64 array, shape (K,), optional
        What the squared errors of each column are multiplied by.
    """
    rows, columns = weights.shape
    groups = -(-columns // group_size)
    scale_count = max(item.scale_count for item in members)
    codes = np.empty((rows, columns), dtype=np.uint8)
    format_ids = np.empty((rows, groups), dtype=np.uint8)
    scales = np.empty((rows, groups, scale_count), dtype=np.float32)
    zeros = np.empty((rows, groups), dtype=np.uint8)

    def work(block: tuple[slice, slice, slice]) -> None:
        row, column, group = block
        shape = format_ids[row, group].shape
        chosen = weights[row, column]
        length = chosen.size // (shape[0] * shape[1])
        some = np.ascontiguousarray(chosen.reshape(-1, length).T)
        if column_factors is None:
            made = quantizer(some)
        else:
            factors = column_factors[column].reshape(-1, length).T
            made = quantizer(some, np.tile(factors, shape[0]))
        codes[row, column] = made.codes.T.reshape(chosen.shape)
        format_ids[row, group] = made.format_ids.reshape(shape)
        scales[row, group] = made.scales.T.reshape(*shape, scale_count)
        zeros[row, group] = made.zeros.reshape(shape)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(work, _blocks(rows, columns, group_size)):
            pass
    return FloatScaledMatrix(
        members=members,
        group_size=group_size,
        codes=codes,
        format_ids=format_ids,
        scales=scales,
        zeros=zeros,
    )


def _blocks(rows: int, columns: int, group_size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut a matrix into blocks of groups of equal length: slices of rows, columns and groups."""
    height = max(1, _BLOCK_WEIGHTS // columns)
    whole = columns // group_size
    for start in range(0, rows, height):
        row = slice(start, start + height)
        if whole:
            yield row, slice(0, whole * group_size), slice(0, whole)
        if whole * group_size < columns:
            yield row, slice(whole * group_size, columns), slice(whole, whole + 1)
