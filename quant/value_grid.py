"""The nearest value of a format, by table."""

from collections.abc import Sequence
from itertools import pairwise, starmap

import numpy as np
import numpy.typing as npt

from ..formats import NumberFormat, ValueFormat

__all__ = ["ValueGrid"]

_WIDEST = 1 << 14  # half steps between a format's ends, for tables


class ValueGrid:
    """Nearest values of several formats on an integer grid; ties go to the lower value.

    Every midpoint between two integers is a multiple of one half, so ``ceil(2 * x)`` alone tells
    which value is nearest to ``x``. It indexes one table of slots for each format, and the tables
    of all formats lie behind one another so that one look-up serves groups of different formats.
    Where some format's range is too wide for that, as that of floats with many exponents, slots are
    the values themselves, and midpoints are searched.

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
        ordered = [_ordered_codes(item) for item in self.members]
        ends = [[item.values[codes[i]] for i in (0, -1)] for item, codes in self._pairs(ordered)]
        lows, highs = 2 * np.array(ends, dtype=np.int64).T
        self._is_wide = bool((highs - lows).max() > _WIDEST)
        tables = ordered
        if not self._is_wide:
            tables = list(starmap(_nearest_codes, self._pairs(ordered)))
        lengths = np.array([len(table) for table in tables])
        self.codes = np.concatenate(tables).astype(np.uint8)
        self.values = np.array(
            [item.values[code] for item, table in self._pairs(tables) for code in table],
            dtype=np.float64,
        )
        self._low = lows.astype(np.float32)
        self._high = highs.astype(np.float32)
        starts = np.cumsum(lengths) - lengths
        self._start = starts if self._is_wide else starts - lows
        self._doubled_midpoints = [
            np.array([item.values[a] + item.values[b] for a, b in pairwise(codes)], np.float64)
            for item, codes in self._pairs(ordered)
        ]
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
        slots = self._search(x, member) if self._is_wide else x.astype(np.intp)
        slots += self._start[member]
        return slots

    def _search(self, doubled: npt.NDArray[np.float32], member) -> npt.NDArray[np.intp]:
        """Count the midpoints of each number's format that are below it."""
        if np.ndim(member) == 0:
            return np.searchsorted(self._doubled_midpoints[member], doubled)
        counts = np.empty(doubled.shape, dtype=np.intp)
        for index in np.unique(member):
            chosen = member == index
            counts[:, chosen] = np.searchsorted(self._doubled_midpoints[index], doubled[:, chosen])
        return counts

    def lowest(self, member) -> npt.NDArray[np.float32]:
        """Return the lowest used value of a format."""
        return self._low[member] / np.float32(2)


def _ordered_codes(item: ValueFormat) -> list[int]:
    """List codes in the order of their values, the lowest code of each value."""
    code_of = {}
    for code in reversed(range(1 << item.code_width)):
        if code not in item.unused:
            code_of[item.values[code]] = code
    return [code_of[value] for value in sorted(code_of)]


def _nearest_codes(item: ValueFormat, ordered: list[int]) -> list[int]:
    """List the nearest code of ``j / 2``, approached from below, for each ``j`` of the range."""
    table = ordered[:1]
    for low_code, high_code in pairwise(ordered):
        lower, upper = item.values[low_code], item.values[high_code]
        # Slots j with lower + upper < j are nearer to the upper value; j == lower + upper ties.
        tie = lower + upper
        table += [low_code] * (tie - 2 * lower) + [high_code] * (2 * upper - tie)
    return table
