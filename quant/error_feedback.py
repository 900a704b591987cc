"""A pass over the columns of a layer that passes the error of each on to those after it."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..formats import QuantizedMatrix
from .groups import GroupSearch, search_groups
from .row_tables import RowTables

__all__ = ["ErrorFeedback"]

_Floats = npt.NDArray[np.float32]

# Columns whose errors are passed on at once to those after them.
_BLOCK = 128


class ErrorFeedback:
    """What :func:`gptq` does once it has a factor and a start.

    Parameters
    ----------
    start : QuantizedMatrix
        Formats and scales of all groups; its row scales are kept in any case.
    factor : float32 array, shape (K, K)
        Upper Cholesky factor of the inverse of the inputs' Hessian, in the order of the turns.
    search : GroupSearch, optional
        Finds formats and scales of a group when its turn comes; by default those of ``start`` stay.
        Only for columns that are taken in their order.
    """

    def __init__(self, start: QuantizedMatrix, factor: _Floats, search: GroupSearch | None = None):
        self._start = start
        self._factor = factor
        self._search = search
        self._format_ids = start.format_ids.copy()
        self._scales = start.scales.copy()
        self._zeros = start.zeros.copy()
        self._tables: dict[int, RowTables] = {}

    def quantize(
        self,
        weights: _Floats,
        *,
        turns: npt.NDArray[np.intp] | None = None,
        column_order: npt.NDArray[np.int32] | None = None,
    ) -> QuantizedMatrix:
        """Quantise a layer.

        Parameters
        ----------
        weights : float32 array, shape (N, K)
        turns : int array, shape (K,), optional
            Column of each turn; by default they are taken in order.
        column_order : int32 array, shape (K,), optional
            Kept with the matrix, whose columns are arranged already.
        """
        start = self._start
        places = np.arange(start.columns) if turns is None else turns
        # Transposed, a column of the weights is one run of memory.
        rest = np.ascontiguousarray(weights[:, places].T)
        codes = np.empty(rest.shape, dtype=np.uint8)
        for begin, end in self._blocks():
            errors = self._block(rest, codes, places, begin, end)
            rest[end:] -= self._factor[begin:end, end:].T @ errors
        placed = np.empty_like(start.codes)
        placed[:, places] = codes.T
        return replace(
            start,
            codes=placed,
            format_ids=self._format_ids,
            scales=self._scales,
            zeros=self._zeros,
            column_order=column_order,
        )

    def _blocks(self) -> list[tuple[int, int]]:
        """Cut the columns so that a block is some whole groups, or a part of one."""
        size, columns = self._start.group_size, self._start.columns
        span = max(size, _BLOCK // size * size)
        return [
            (begin, min(begin + _BLOCK, first + span, columns))
            for first in range(0, columns, span)
            for begin in range(first, min(first + span, columns), _BLOCK)
        ]

    def _block(self, rest, codes, places, begin: int, end: int) -> _Floats:
        """Quantise some columns; return their errors, each divided by its factor's diagonal."""
        factor, size = self._factor, self._start.group_size
        errors = np.empty((end - begin, rest.shape[1]), dtype=np.float32)
        for turn in range(begin, end):
            group = int(places[turn]) // size
            if self._search is not None and turn % size == 0:
                self._settle(rest, turn)
            codes[turn], found = self._table(group).nearest(rest[turn])
            error = errors[turn - begin]
            error[:] = (rest[turn] - found) / factor[turn, turn]
            later = slice(turn + 1, end)
            rest[later] -= factor[turn, later, None] * error
        return errors

    def _settle(self, rest: _Floats, turn: int) -> None:
        """Find formats and scales of a column of groups whose turn has come."""
        assert self._search is not None
        start = self._start
        group, columns = turn // start.group_size, slice(turn, turn + start.group_size)
        costs = 1 / np.diag(self._factor)[columns].astype(np.float64) ** 2
        made = search_groups(
            np.ascontiguousarray(rest[columns].T),
            self._search,
            members=start.members,
            group_size=len(costs),
            column_factors=costs,
        )
        self._format_ids[:, group] = made.format_ids[:, 0]
        self._zeros[:, group] = made.zeros[:, 0]
        self._scales[:, group] = _in_steps(made.scales[:, 0], start)

    def _table(self, group: int) -> RowTables:
        if group not in self._tables:
            if self._search is not None:
                self._tables.clear()  # groups come one after another
            self._tables[group] = RowTables(
                self._start.members,
                self._format_ids[:, group],
                self._scales[:, group],
                self._zeros[:, group],
                self._start.row_scales,
            )
        return self._tables[group]


def _in_steps(scales: _Floats, start: QuantizedMatrix) -> npt.NDArray[np.int32]:
    """Round scales of one group of each row, (N, C), to the steps of the row, within its range."""
    limit = (1 << start.scale_width) - 1
    steps = start.row_scales.astype(np.float64)[:, None]
    integers = np.rint(scales / np.where(steps > 0, steps, 1))
    integers[steps[:, 0] == 0] = 0
    return np.clip(integers, -limit, limit).astype(np.int32)
