"""The nearest weight that a group's format and scales allow, one group a row."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..formats import NumberFormat, ValueFormat

__all__ = ["RowTables", "usable_codes"]


class RowTables:
    """For each of some groups, usually one of every row, the weights that its codes stand for.

    Works for every number format alike: the weights are sorted, and a number lies between two
    midpoints. Ties go to the lower weight. Of codes with equal values the lowest is used, and a
    format's unused codes are not.

    Parameters
    ----------
    members : sequence of NumberFormat
        What format ids index.
    format_ids : uint8 array, shape (count,)
    scales : int32 array, shape (count, C)
    zeros : uint8 array, shape (count,)
    steps : float32 array, shape (count,)
        Row scale of each group.

    Attributes
    ----------
    weights : float64 array, shape (entries, count)
        Ascending; the last one is repeated where a format has fewer than others.
    codes : uint8 array, shape (entries, count)
    """

    def __init__(
        self,
        members: Sequence[NumberFormat],
        format_ids: npt.NDArray[np.uint8],
        scales: npt.NDArray[np.int32],
        zeros: npt.NDArray[np.uint8],
        steps: npt.NDArray[np.float32],
    ):
        usable = list(map(usable_codes, members))
        entries = max(map(len, usable))
        count = len(format_ids)
        integers = np.empty((count, entries), dtype=np.int64)
        codes = np.empty((count, entries), dtype=np.uint8)
        for index, (item, own) in enumerate(zip(members, usable, strict=True)):
            chosen = format_ids == index
            table = item.weight_table(scales[chosen][:, : item.scale_count])
            if item.has_zero_point:
                zero = zeros[chosen].astype(np.int64)[:, None]
                table = table - np.take_along_axis(table, zero, axis=1)
            table = table[:, own]
            order = np.argsort(table, axis=1, kind="stable")
            spare = ((0, 0), (0, entries - len(own)))
            order = np.pad(order, spare, mode="edge")
            integers[chosen] = np.take_along_axis(table, order, axis=1)
            codes[chosen] = np.array(own, dtype=np.uint8)[order]
        # What is equal to the entry before it stands for the first of them.
        first = np.zeros((count, entries), dtype=np.intp)
        for entry in range(1, entries):
            same = integers[:, entry] == integers[:, entry - 1]
            first[:, entry] = np.where(same, first[:, entry - 1], entry)
        self.codes = np.ascontiguousarray(np.take_along_axis(codes, first, axis=1).T)
        self.weights = np.ascontiguousarray((integers * steps.astype(np.float64)[:, None]).T)
        self._middles = ((self.weights[:-1] + self.weights[1:]) / 2).astype(np.float32)
        self._columns = np.arange(count)

    def ranks(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """Return the entry nearest to one number for each group, intp of shape (count,)."""
        return np.count_nonzero(x > self._middles, axis=0)

    def neighbours(
        self, x: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the entries next to one number for each group: at most that, and above it.

        Beyond the ends both are the last entry there. Shape (count,) each.
        """
        counts = np.count_nonzero(x >= self.weights, axis=0)
        return np.maximum(counts - 1, 0), np.minimum(counts, len(self.weights) - 1)

    def nearest(
        self, x: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        """Return the code and the weight nearest to one number for each group.

        Parameters
        ----------
        x : float32 array, shape (count,)

        Returns
        -------
        codes : uint8 array, shape (count,)
        weights : float64 array, shape (count,)
        """
        ranks = self.ranks(x)
        return self.codes[ranks, self._columns], self.weights[ranks, self._columns]


def usable_codes(item: NumberFormat) -> list[int]:
    """List the codes to quantise to; where all values are alike, the first is taken."""
    if not isinstance(item, ValueFormat):
        return list(range(1 << item.code_width))
    code_of: dict[int, int] = {}
    for code, value in enumerate(item.values):
        if code not in item.unused:
            code_of.setdefault(value, code)
    return [code_of[value] for value in sorted(code_of, key=abs)]
