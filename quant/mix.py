"""One quantised matrix out of several."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..formats import QuantizedMatrix
from .float_scaled import FloatScaledMatrix

__all__ = ["mix"]


def mix(
    candidates: Sequence[FloatScaledMatrix], choices: npt.NDArray[np.int64], scale_width: int
) -> QuantizedMatrix:
    """Assemble a matrix whose groups come from different candidates.

    Scales are split into two levels once all groups are in place: a row has one float32 scale,
    whatever formats it has. The members are those of the candidates that are chosen at least once,
    in the order of the candidates.

    Parameters
    ----------
    candidates : sequence of FloatScaledMatrix
        The same weights, with the same group size, in different families of formats.
    choices : int array, shape (N, G)
        Candidate of each group.
    scale_width : int
        Magnitude bits of a group scale.

    Raises
    ------
    :exc:`ValueError`
        If the candidates or the choices do not go together.
    """
    first = candidates[0]
    if any(
        item.codes.shape != first.codes.shape or item.group_size != first.group_size
        for item in candidates
    ):
        raise ValueError("Candidates must have the same shape and group size")
    if choices.shape != first.format_ids.shape:
        raise ValueError(
            f"Choices must have one candidate a group, shape {first.format_ids.shape}, "
            f"not {choices.shape}"
        )
    if choices.min() < 0 or choices.max() >= len(candidates):
        raise ValueError(f"Choices must be from 0 to {len(candidates) - 1}")
    used = np.unique(choices)
    scale_count = max(candidates[index].scales.shape[2] for index in used)
    codes = np.empty_like(first.codes)
    format_ids = np.empty_like(first.format_ids)
    scales = np.zeros((*choices.shape, scale_count), np.float32)
    zeros = np.empty_like(first.zeros)
    members = ()
    for index in used:
        item, chosen = candidates[index], choices == index
        columns = _expand(chosen, first.group_size, codes.shape[1])
        np.copyto(codes, item.codes, where=columns)
        np.copyto(format_ids, item.format_ids + np.uint8(len(members)), where=chosen)
        scales[chosen, : item.scales.shape[2]] = item.scales[chosen]
        np.copyto(zeros, item.zeros, where=chosen)
        members += item.members
    return FloatScaledMatrix(
        members=members,
        group_size=first.group_size,
        codes=codes,
        format_ids=format_ids,
        scales=scales,
        zeros=zeros,
    ).split(scale_width)


def _expand(chosen: npt.NDArray[np.bool_], group_size: int, columns: int) -> npt.NDArray[np.bool_]:
    """Repeat (N, G) along its groups, to (N, K)."""
    return np.repeat(chosen, group_size, axis=1)[:, :columns]
