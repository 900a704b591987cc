"""Rows of weights that let one part of another row's sum through, and nothing else.

A row is a :class:`QuantizedMatrix` of one row; so whatever takes a layer takes these.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt

from ..formats import CodebookSlot, NumberFormat, QuantizedMatrix

__all__ = [
    "Probe",
    "activation_probes",
    "code_probe",
    "group_columns",
    "plane_probe",
    "row_of",
    "silence",
    "stack_rows",
]


@dataclass(frozen=True)
class Probe:
    """A row that shows one intermediate.

    Parameters
    ----------
    row : QuantizedMatrix
        The row.
    value : callable
        Takes the row's sum, and the sum of the group's aligned activations where a group is looked
        at; returns the intermediate.
    """

    row: QuantizedMatrix
    value: Callable[[Fraction, int], Fraction]


def row_of(matrix: QuantizedMatrix, index: int) -> QuantizedMatrix:
    """Return one row of a layer, without its bias."""
    return _rows(matrix, slice(index, index + 1))


def group_columns(matrix: QuantizedMatrix, group: int) -> slice:
    """Return the columns of a group."""
    first = group * matrix.group_size
    return slice(first, min(first + matrix.group_size, matrix.columns))


def stack_rows(rows: Sequence[QuantizedMatrix], copies: int) -> QuantizedMatrix:
    """Make a layer of rows, each of them ``copies`` times, one after the other."""
    parts = ("codes", "format_ids", "scales", "zeros", "row_scales")
    return replace(
        rows[0],
        **{
            name: np.concatenate([getattr(row, name) for row in rows]).repeat(copies, axis=0)
            for name in parts
        },
    )


def silence(row: QuantizedMatrix, groups: Iterable[int]) -> QuantizedMatrix:
    """Take groups out of a row's sum: by codes that weigh 0, or where there are none by scales.

    Codes rather than scales, so that a scale that comes into the wrong group shows.
    """
    codes, scales, zeros = row.codes.copy(), row.scales.copy(), row.zeros.copy()
    for group in groups:
        item, silent = _format_of(row, group), _silent_code(row, group)
        if silent is None:
            scales[0, group] = 0
            continue
        codes[0, group_columns(row, group)] = silent
        zeros[0, group] = silent if item.has_zero_point else 0
    return replace(row, codes=codes, scales=scales, zeros=zeros)


def activation_probes(
    row: QuantizedMatrix, others: Iterable[NumberFormat]
) -> tuple[Callable[[int], Probe], Callable[[int], Probe]] | None:
    """Return two ways of letting a single activation through, by other planes and scales.

    Parameters
    ----------
    row : QuantizedMatrix
        Shape and group size, and formats to choose from.
    others : iterable of NumberFormat
        Formats to choose from where none of the row's will do.

    Returns
    -------
    two callables, or None
        What makes the probe of a column; None where no format has a code that weighs 0.
    """
    for item in (*row.members, *others):
        if isinstance(item, CodebookSlot):
            continue
        for scales in _unit_scales(item):
            weights = item.weight_table(scales)
            if item.has_zero_point:
                weights = weights - weights[0]
            if (weights == 0).any():
                silent = int(np.flatnonzero(weights == 0)[0])
                one, other = _two_codes(item, weights)
                return (
                    partial(_activation_probe, row, item, scales, silent, one),
                    partial(
                        _activation_probe, row, item, _other_scale(row) * scales, silent, other
                    ),
                )
    return None


def plane_probe(
    row: QuantizedMatrix, group: int, plane: int, *, second: bool = False
) -> Probe | None:
    """Return a row that shows one plane sum of a group by itself, whatever the group's scale is.

    A plane with a scale of its own is taken by that scale. Any other is taken by two codes, one
    with the plane's digit and one without, that differ in as few other planes as the format has it:
    the columns keep their digit of this plane.

    Parameters
    ----------
    row : QuantizedMatrix
        The row.
    group, plane : int
        Which.
    second : bool
        Take another scale than 1.

    Returns
    -------
    Probe or None
        None where the plane's digit is the same for every code.
    """
    item = _format_of(row, group)
    scale = _other_scale(row) if second else 1
    alone = _unscaled(row, group, scale)
    if item.scale_count > 1:
        scales = alone.scales.copy()
        scales[0, group] = 0
        scales[0, group, item.planes[plane].scale_index] = scale
        factor = scale * item.planes[plane].coefficient
        return Probe(replace(alone, scales=scales), lambda total, _: total / factor)
    digits = _digits(item)
    pair = _isolating_codes(digits > 0, plane)
    if pair is None:
        return None
    high, low = pair
    columns = group_columns(row, group)
    is_set = digits[plane, row.codes[0, columns]] > 0
    codes, zeros = alone.codes.copy(), alone.zeros.copy()
    codes[0, columns] = np.where(is_set, high, low)
    values = item.weight_table(np.full(1, scale)).tolist()
    step, rest = values[high] - values[low], values[low]
    if item.has_zero_point:
        zeros[0, group] = low
        rest = 0
    bipolar = item.planes[plane].bipolar

    def plane_sum(total: Fraction, activations: int) -> Fraction:
        ones = (total - rest * activations) / step
        return 2 * ones - activations if bipolar else ones

    return Probe(replace(alone, codes=codes, zeros=zeros), plane_sum)


def code_probe(
    row: QuantizedMatrix, group: int, code: int, *, second: bool = False
) -> Probe | None:
    """Return a row that lets the columns of one code through, times what it weighs at scale 1.

    Returns
    -------
    Probe or None
        None where the group's format has no code that weighs 0 for the others.
    """
    silent = _silent_code(row, group)
    if silent is None:
        return None
    scale = _other_scale(row) if second else 1
    alone = _unscaled(row, group, scale)
    columns = group_columns(row, group)
    codes, zeros = alone.codes.copy(), alone.zeros.copy()
    codes[0, columns] = np.where(row.codes[0, columns] == code, code, silent)
    zeros[0, group] = silent if _format_of(row, group).has_zero_point else 0
    return Probe(replace(alone, codes=codes, zeros=zeros), lambda total, _: total / scale)


def _activation_probe(
    row: QuantizedMatrix,
    item: NumberFormat,
    scales: npt.NDArray[np.int32],
    silent: int,
    code: int,
    column: int,
) -> Probe:
    codes = np.full_like(row.codes, silent)
    codes[0, column] = code
    single = QuantizedMatrix(
        members=(item,),
        group_size=row.group_size,
        codes=codes,
        format_ids=np.zeros_like(row.format_ids),
        scales=np.tile(scales, (1, row.groups, 1)),
        zeros=np.zeros_like(row.zeros),
        row_scales=row.row_scales,
        scale_width=row.scale_width,
    )
    weights = item.weight_table(scales)
    weight = int(weights[code] - weights[silent])
    return Probe(single, lambda total, _: total / weight)


def _unit_scales(item: NumberFormat) -> Iterator[npt.NDArray[np.int32]]:
    """Yield scales of 1; of several, also without the last: an odd number of signs is never 0."""
    ones = np.ones(item.scale_count, np.int32)
    yield ones
    if item.scale_count > 1:
        ones = ones.copy()
        ones[-1] = 0
        yield ones


def _two_codes(item: NumberFormat, weights: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return the code of the least weight, and one that has few planes in common with it."""
    digits = _digits(item) > 0
    choices = np.flatnonzero(weights).tolist()
    first = min(choices, key=lambda code: abs(weights[code]))
    second = min(
        [code for code in choices if code != first] or choices,
        key=lambda code: (int((digits[:, code] & digits[:, first]).sum()), abs(weights[code])),
    )
    return first, second


def _other_scale(row: QuantizedMatrix) -> int:
    """Return a scale that has no bit in common with 1, if there is one."""
    return 2 if row.scale_width > 1 else -1


def _rows(matrix: QuantizedMatrix, which: slice) -> QuantizedMatrix:
    return replace(
        matrix,
        codes=matrix.codes[which],
        format_ids=matrix.format_ids[which],
        scales=matrix.scales[which],
        zeros=matrix.zeros[which],
        row_scales=matrix.row_scales[which],
        bias=None,
        outliers=None,  # engines have none: there is nothing to find
    )


def _unscaled(row: QuantizedMatrix, group: int, scale: int) -> QuantizedMatrix:
    """Silence all groups but one, and make all scales the same that do not do the silencing."""
    alone = silence(row, (other for other in range(row.groups) if other != group))
    scales = np.zeros_like(alone.scales)
    for index in range(row.groups):
        if index == group:
            scales[0, index, : _format_of(row, group).scale_count] = scale
        elif _silent_code(row, index) is not None:
            scales[0, index, 0] = scale
    return replace(alone, scales=scales)


def _silent_code(row: QuantizedMatrix, group: int) -> int | None:
    """Return a code of a group that weighs 0 whatever its scales are, if there is one.

    Beside a zero-point it is the code with the fewest digits, to be the zero-point as well.
    """
    item = _format_of(row, group)
    if item.has_zero_point:
        return int((_digits(item) != 0).sum(axis=0).argmin())
    if item.scale_count > 1:
        return None
    silent = np.flatnonzero(item.weight_table(np.ones(1, np.int64)) == 0)
    return int(silent[0]) if len(silent) else None


def _format_of(row: QuantizedMatrix, group: int) -> NumberFormat:
    return row.members[row.format_ids[0, group]]


def _digits(item: NumberFormat) -> npt.NDArray[np.int64]:
    """Return the digits of every plane, (planes, 2**code_width)."""
    return np.stack([plane.digits(item.code_width) for plane in item.planes])


def _isolating_codes(digits: npt.NDArray[np.bool_], plane: int) -> tuple[int, int] | None:
    """Return two codes that differ in a plane and in little else, first the one that has it."""
    pairs = [
        (int((digits[:, high] != digits[:, low]).sum()), int(digits[:, low].sum()), high, low)
        for high in np.flatnonzero(digits[plane]).tolist()
        for low in np.flatnonzero(~digits[plane]).tolist()
    ]
    return min(pairs)[2:] if pairs else None
