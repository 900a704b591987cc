"""How groups of a layer are put into buckets, and what a bucket holds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..formats import BinaryCodingFormat, NumberFormat, QuantizedMatrix, ValueFormat
from .weight_spec import Bucket, WeightSpec
from .words import CHUNK, pack_words

__all__ = ["pack_groups", "why_not_packed"]

_TABLE_BYTES = 16
_SHORT_GROUPS = (4, 8, 16)  # that share a chunk
_SCALE_WIDTH = 16
_VALUE_PEAK = 4095  # so that a scale times a constant of the codes stays far within an int32


def why_not_packed(matrix: QuantizedMatrix) -> str:
    """Return why kernels cannot read a matrix, or nothing if they can."""
    if matrix.outliers is not None:
        return "it has outliers"
    if matrix.scale_width > _SCALE_WIDTH:
        return f"its scales have {matrix.scale_width} bits, over {_SCALE_WIDTH}"
    for item in matrix.members:
        if isinstance(item, BinaryCodingFormat):
            continue
        if not isinstance(item, ValueFormat):
            return f"{item.name} has neither a value table nor signs"
        if item.code_width > 4 and not _is_affine(item):
            return f"{item.name} has a table of more than 16 values"
        if not _is_affine(item) and not _fits_table(item):
            return f"{item.name} has values beyond 8 bits"
        if max(-min(item.values), max(item.values)) > _VALUE_PEAK:
            return f"{item.name} has values beyond {_VALUE_PEAK}"
    return ""


def pack_groups(matrix: QuantizedMatrix) -> tuple[WeightSpec, list[Tensor]]:
    """Pack a layer for the kernels; see :class:`PackedWeights` for what the tensors are.

    Returns
    -------
    spec : WeightSpec
        Without its ``row_sum``.
    tensors : list of Tensor
        All but those of the row scales.

    Raises
    ------
    :exc:`ValueError`
        If there is no packed layout for one of the formats; see :func:`why_not_packed`.
    """
    if reason := why_not_packed(matrix):
        raise ValueError(f"This layer has no packed layout: {reason}")
    kinds = _kinds(matrix)
    distinct = [kind for kind in dict.fromkeys(kinds) if kind.chosen(matrix, kinds).any()]
    is_ordered = len(distinct) == 1
    spec = WeightSpec(
        rows=matrix.rows,
        columns=matrix.columns,
        group_size=matrix.group_size,
        row_sum=0,
        padded_group=_padded_group(matrix, is_ordered),
        is_ordered=is_ordered,
        buckets=tuple(kind.bucket(matrix, kinds) for kind in distinct),
    )
    tensors = [*_scales_and_offsets(matrix, kinds, spec)]
    for kind in distinct:
        codes = [_group_codes(matrix, kind, kinds, group, spec) for group in range(matrix.groups)]
        pack_kind = _pack_ordered if is_ordered else _pack_units
        tensors += pack_kind(codes, kind.chosen(matrix, kinds), kind, spec)
        if kind.has_tables:
            tensors += _tables(matrix, kind, kinds, spec)
    return spec, tensors


@dataclass(frozen=True)
class _Kind:
    """How a format's codes are packed; formats of equal kinds share a bucket."""

    code_width: int
    sums: int
    has_tables: bool

    def bucket(self, matrix: QuantizedMatrix, kinds: list["_Kind"]) -> Bucket:
        chosen = self.chosen(matrix, kinds)
        tables = kinds.count(self) if self.has_tables else 0
        return Bucket(
            code_width=self.code_width,
            sums=self.sums,
            tables=tables,
            units=int(chosen.sum(axis=0).max()),
        )

    def chosen(self, matrix: QuantizedMatrix, kinds: list["_Kind"]) -> npt.NDArray[np.bool_]:
        """Return which groups are of this kind, (N, G)."""
        return np.array([kind == self for kind in kinds])[matrix.format_ids]


def _kinds(matrix: QuantizedMatrix) -> list[_Kind]:
    """Return the kind of each member."""
    # A format whose codes are values goes along with one of its width that needs a table.
    with_tables = {
        item.code_width
        for item in matrix.members
        if isinstance(item, ValueFormat) and not _is_affine(item)
    }
    return [
        _Kind(1, item.code_width, False)
        if isinstance(item, BinaryCodingFormat)
        else _Kind(item.code_width, 1, item.code_width in with_tables and _fits_table(item))
        for item in matrix.members
    ]


def _is_affine(item: NumberFormat) -> bool:
    """Whether the values of a format are its codes, in some order, plus a constant."""
    values = sorted(item.values) if isinstance(item, ValueFormat) else []
    return values == list(range(values[0], values[0] + len(values))) if values else False


def _fits_table(item: NumberFormat) -> bool:
    """Whether the entries of a value table can be the values of a format, which are int8."""
    return isinstance(item, ValueFormat) and -128 <= min(item.values) <= max(item.values) <= 127


def _padded_group(matrix: QuantizedMatrix, is_ordered: bool) -> int:
    size = min(matrix.group_size, matrix.columns)
    if is_ordered:
        for short in _SHORT_GROUPS:
            # One group needs no neighbour to share a chunk with.
            if size <= short and matrix.groups > 1:
                return short
    return -(-size // CHUNK) * CHUNK


def _scales_and_offsets(
    matrix: QuantizedMatrix, kinds: list[_Kind], spec: WeightSpec
) -> tuple[Tensor, Tensor]:
    scales = np.zeros((spec.groups, spec.sums, spec.rows), dtype=np.int32)
    offsets = np.zeros((spec.groups, spec.rows), dtype=np.int32)
    for index, (item, kind) in enumerate(zip(matrix.members, kinds, strict=True)):
        row, group = np.nonzero(matrix.format_ids == index)
        factors = matrix.scales[row, group]
        if isinstance(item, BinaryCodingFormat):
            # A sign is 2 * bit - 1, so a plane of bits has twice its scale and all are taken off.
            signs = factors[:, : item.code_width]
            scales[group, : kind.sums, row] = 2 * signs
            offsets[group, row] = -signs.sum(axis=1)
            if item.offset:
                offsets[group, row] += factors[:, item.code_width]
        elif isinstance(item, ValueFormat):
            scales[group, 0, row] = factors[:, 0]
            constant = np.zeros(len(row), dtype=np.int32)
            if not kind.has_tables:  # bytes are codes from 0, or from -128 where they have 8 bits
                constant += min(item.values) + (128 if item.code_width == 8 else 0)
            if item.has_zero_point:
                constant -= np.array(item.values, dtype=np.int32)[matrix.zeros[row, group]]
            offsets[group, row] = factors[:, 0] * constant
    if not offsets.any():
        offsets = offsets[:0]
    return torch.from_numpy(_narrowest(scales)), torch.from_numpy(_narrowest(offsets))


def _narrowest(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.signedinteger]:
    """Return numbers as int16 where they fit: at 8-bit scales, half of what lies beside codes."""
    narrow = numbers.astype(np.int16)
    return narrow if np.array_equal(narrow, numbers) else numbers


def _pack_ordered(
    codes: list[npt.NDArray[np.uint8]],
    chosen: npt.NDArray[np.bool_],
    kind: _Kind,
    spec: WeightSpec,
) -> list[Tensor]:
    codes = codes + [np.zeros_like(codes[0])] * (spec.groups - len(codes))
    # A chunk at least at a time, since short groups share one; not all, for the memory's sake.
    per = spec.groups_per_chunk
    parts = [
        _pack(np.hstack(codes[first : first + per]), kind).ravel()
        for first in range(0, spec.groups, per)
    ]
    return [torch.from_numpy(np.concatenate(parts))]


def _pack_units(
    codes: list[npt.NDArray[np.uint8]],
    chosen: npt.NDArray[np.bool_],
    kind: _Kind,
    spec: WeightSpec,
) -> list[Tensor]:
    units = [np.nonzero(of_group)[0] for of_group in chosen.T]
    parts = [_pack(block[rows], kind).ravel() for block, rows in zip(codes, units, strict=True)]
    starts = np.cumsum([0, *map(len, units)])
    return [
        torch.from_numpy(np.concatenate(parts)),
        torch.from_numpy(starts.astype(np.int32)),
        torch.from_numpy(np.concatenate(units).astype(np.int32)),
    ]


def _group_codes(
    matrix: QuantizedMatrix, kind: _Kind, kinds: list[_Kind], group: int, spec: WeightSpec
) -> npt.NDArray[np.uint8]:
    """Return what is packed of a group of all rows, (N, padded_group)."""
    first = group * matrix.group_size
    codes = matrix.codes[:, first : first + matrix.group_size]
    padded = np.zeros((matrix.rows, spec.padded_group), dtype=np.uint8)
    padded[:, : codes.shape[1]] = codes
    if kind.has_tables:
        return padded
    for index, item in enumerate(matrix.members):
        if kinds[index] == kind and isinstance(item, ValueFormat):
            stored = np.array(item.values) - min(item.values)
            flip = 128 if item.code_width == 8 else 0
            rows = matrix.format_ids[:, group] == index
            padded[rows] = (stored ^ flip).astype(np.uint8)[padded[rows]]
    return padded


def _pack(codes: npt.NDArray[np.uint8], kind: _Kind) -> npt.NDArray[np.int32]:
    planes = [codes >> np.uint8(plane) for plane in range(kind.sums)]
    if kind.sums > 1:
        planes = [plane & np.uint8(1) for plane in planes]
    packed = [pack_words(part, kind.code_width, selectors=kind.has_tables) for part in planes]
    return np.concatenate(packed, axis=1)


def _tables(
    matrix: QuantizedMatrix,
    kind: _Kind,
    kinds: list[_Kind],
    spec: WeightSpec,
) -> list[Tensor]:
    own = [index for index, other in enumerate(kinds) if other == kind]
    tables = np.zeros((len(own), _TABLE_BYTES), dtype=np.int8)
    place = np.zeros(len(kinds), dtype=np.uint8)
    for row, index in enumerate(own):
        item = matrix.members[index]
        assert isinstance(item, ValueFormat)
        tables[row, : 1 << item.code_width] = item.values
        place[index] = row
    ids = place[matrix.format_ids].T  # groups first, as the units are
    if spec.is_ordered:
        ids = np.pad(ids, ((0, spec.groups - matrix.groups), (0, 0))).ravel()
    else:
        ids = ids[kind.chosen(matrix, kinds).T]
    return [torch.from_numpy(np.ascontiguousarray(ids)), torch.from_numpy(tables.view(np.int32))]
