"""The nearest value of a format, by table."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..formats import NumberFormat, ValueFormat

__all__ = ["ValueGrid"]


class ValueGrid:
    """Nearest values of several formats on an integer grid; ties go to the lower value.

    Every midpoint between two integers is a multiple of one half, so ``ceil(2 * x)`` alone tells
    which value is nearest to ``x``. It indexes one table of slots for each format, and the tables
    of all formats lie behind one another so that one look-up serves groups of different formats.

    Of codes with equal values the lowest is used (there is no -0), and ``unused`` codes are not.

    Parameters
    ----------
    members : sequence of NumberFormat
        Value formats; ``member`` below is an index into them, or an array of indices, (count,).

    Attributes
    ----------
    codes : uint8 array, shape (slots,)
        Code of each slot.
    values : float64 array, shape (slots,)
        Integer value of each slot.
    reach : float64 array, shape (members,)
        Largest magnitude of a used value; of a difference of two where there is a zero-point.
    has_zero_point : bool array, shape (members,)

    Raises
    ------
    :exc:`ValueError`
        If a member is not a value format.

    Source
    ------
    Chen et al., BitMoD, HPCA 2025, algorithm 1: ``mid[i-1] < x <= mid[i]``.
    """

    def __init__(self, members: Sequence[NumberFormat]):
        self.members = tuple(item for item in members if isinstance(item, ValueFormat))
        if len(self.members) != len(members):
            raise ValueError("Every member must be a value format to be searched by values")
        tables = [_nearest_codes(item) for item in self.members]
        lows = np.array([2 * item.values[table[0]] for item, table in self._pairs(tables)])
        lengths = np.array([len(table) for table in tables])
        self.codes = np.concatenate(tables).astype(np.uint8)
        self.values = np.array(
            [item.values[code] for item, table in self._pairs(tables) for code in table],
            dtype=np.float64,
        )
        self._low = lows.astype(np.float32)
        self._high = (lows + lengths - 1).astype(np.float32)
        self._start = (np.cumsum(lengths) - lengths - lows).astype(np.intp)
        self.has_zero_point = np.array([item.has_zero_point for item in self.members])
        doubled_reach = np.where(
            self.has_zero_point,
            self._high - self._low,
            np.maximum(np.abs(self._low), np.abs(self._high)),
        )
        self.reach = doubled_reach.astype(np.float64) / 2

    def _pairs(self, tables):
        return zip(self.members, tables, strict=True)

    def slots(self, x: npt.NDArray[np.float32], member, zero=None) -> npt.NDArray[np.intp]:
        """Find the slot of the value nearest to each number.

        Parameters
        ----------
        x : float32 array, shape (length, count)
            Finite numbers in steps of the grid; overwritten.
        member : int or int array of shape (count,)
            Which format.
        zero : float32 array of shape (count,), optional
            Values of zero-points, integers; they are added to ``x`` without rounding.

        Returns
        -------
        intp array, shape (length, count)
        """
        np.add(x, x, out=x)
        np.ceil(x, out=x)
        if zero is not None:
            x += 2 * zero
        np.clip(x, self._low[member], self._high[member], out=x)
        slots = x.astype(np.intp)
        slots += self._start[member]
        return slots

    def lowest(self, member) -> npt.NDArray[np.float32]:
        """Return the lowest used value of a format."""
        return self._low[member] / np.float32(2)


def _nearest_codes(item: ValueFormat) -> list[int]:
    """List the nearest code of ``j / 2``, approached from below, for each ``j`` of the range."""
    code_of = {}
    for code in reversed(range(1 << item.code_width)):
        if code not in item.unused:
            code_of[item.values[code]] = code
    ordered = sorted(code_of)
    table = [code_of[ordered[0]]]
    for lower, upper in pairwise(ordered):
        # Slots j with lower + upper < j are nearer to the upper value; j == lower + upper ties.
        tie = lower + upper
        table += [code_of[lower]] * (tie - 2 * lower) + [code_of[upper]] * (2 * upper - tie)
    return table
