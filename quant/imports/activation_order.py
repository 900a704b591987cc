"""Groups in order of activations: which columns a group has, as ranges of reordered columns."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..file_error import FileError

__all__ = ["ColumnGroups", "order_columns"]

_LEAST = 8  # columns of a group; less would cost more bits of scales than of codes


@dataclass(frozen=True, eq=False)
class ColumnGroups:
    """Columns in an order in which the groups are ranges of one size.

    Parameters
    ----------
    order : int32 array, shape (K,), or None
        Column of the checkpoint that comes at each place; None where none moves.
    size : int
        Columns of one group, the last may have fewer.
    groups : int64 array
        Group of the checkpoint whose scales each of these groups has.
    """

    order: npt.NDArray[np.int32] | None
    size: int
    groups: npt.NDArray[np.int64]


def order_columns(group_of: npt.NDArray, group_count: int, name: str) -> ColumnGroups:
    """Sort columns by their group.

    Groups of one size are kept, with a shorter one last. Groups of other sizes are split into
    groups of a size that they share, with the same scales.

    Parameters
    ----------
    group_of : int array, shape (K,)
        Group of each column.
    group_count : int
        Groups that there are; not all need to have columns.
    name : str
        Of the tensor, for sentences.

    Returns
    -------
    ColumnGroups

    Raises
    ------
    FileError
        If a group is out of range, or the groups' sizes have no common divisor of at least 8.
    """
    lowest, highest = int(group_of.min()), int(group_of.max())
    if lowest < 0 or highest >= group_count:
        wrong = lowest if lowest < 0 else highest
        raise FileError(
            f"Tensor {name!r} must have groups from 0 to {group_count - 1}, not {wrong}"
        )
    counts = np.bincount(group_of, minlength=group_count)
    present = np.flatnonzero(counts)
    last = _last(counts[present])
    groups = np.concatenate([np.delete(present, last), present[last : last + 1]])
    sizes = counts[groups]
    size = math.gcd(*sizes[:-1].tolist()) or int(sizes[0])
    if size < min(_LEAST, int(sizes.max())):
        raise FileError(
            f"Tensor {name!r} has groups of {int(sizes.min())} to {int(sizes.max())} columns, "
            f"which no size of at least {_LEAST} divides"
        )
    rank = np.empty(group_count, dtype=np.int64)
    rank[groups] = np.arange(len(groups))
    order = np.argsort(rank[group_of], kind="stable").astype(np.int32)
    in_place = np.array_equal(order, np.arange(len(order)))
    return ColumnGroups(
        order=None if in_place else order,
        size=size,
        groups=np.repeat(groups, -(-sizes // size)),
    )


def _last(counts: npt.NDArray[np.int64]) -> int:
    """Return the index of the group that comes last, so that the others share the largest size."""
    best, best_size = len(counts) - 1, -1
    # Groups of equal size are equally good; of these the last is taken.
    candidates = {int(count): index for index, count in enumerate(counts)}
    if len(candidates) > 3:  # an odd one out and a tail are all that a common size allows for
        return best
    for index in (len(counts) - 1, *candidates.values()):
        others = np.delete(counts, index).tolist()
        size = math.gcd(*others)
        if size > best_size:
            best, best_size = index, size
    return best
