"""A layer's weights on a device: derived from the matrix when it is loaded, never saved."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..formats import QuantizedMatrix
from .dtypes import dtype_name
from .packing import pack_groups
from .product import FLOAT64_PEAK
from .row_scales import split_row_scales
from .weight_spec import Bucket, WeightSpec
from .words import CHUNK, unpack_words

__all__ = ["BucketTensors", "PackedWeights"]


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """Weights as the operators take them.

    There are two layouts. *Words* hold codes at their true width (:mod:`.words`), for the kernels.
    *Dense* weights are the integers themselves as float64, 8 bytes each: for processors, and the
    exact fallback for whatever the kernels cannot take.

    A group's share of a row's sum is ``sum_p scales[g, p, n] * D_p + offsets[g, n] * SX``, with
    ``D_p`` the dot product of the group's int8 values and the activations, ``SX`` their sum. For
    value formats there is one ``D``, of the table's entries, or of the codes themselves where these
    are values less a constant, which goes into the offset with the zero-point. For binary codings
    ``D_p`` is that of plane ``p`` with digits 0 and 1.

    Parameters
    ----------
    spec : WeightSpec
    tensors : tuple of Tensor
        Row scales' significands (float32) and exponents (int32), (N,). Dense: float64, (N, K).
        Words: scales (G, P, N), and offsets (G, N), or (0, N) if all are 0, int16 or int32; then
        for each bucket its words, int32, for each group (chunks, words of a chunk, units); unless
        the layer is ordered the first unit of each group, int32 (G + 1,), and the units' rows,
        int32; with tables the units' table, uint8, and the tables, int32 (tables, 4).

    Attributes
    ----------
    text : str
        The specification as text.

    Raises
    ------
    :exc:`ValueError`
        If the tensors are not those of the specification, or not on one device.
    """

    spec: WeightSpec
    tensors: tuple[Tensor, ...]
    text: str = field(init=False)

    def __post_init__(self) -> None:
        # Once and not when asked for, so that graphs can be compiled around it.
        object.__setattr__(self, "text", self.spec.to_text())
        _check_tensors(self.spec, self.tensors)

    @classmethod
    def dense(cls, matrix: QuantizedMatrix) -> "PackedWeights":
        """Derive the dense layout.

        Raises
        ------
        :exc:`ValueError`
            If the sums of magnitudes of a row need more than 52 bits.
        """
        weights = matrix.integer_weights()
        spec = WeightSpec(
            rows=matrix.rows,
            columns=matrix.columns,
            group_size=matrix.group_size,
            row_sum=_row_sum(weights),
        )
        tensors = (*_row_scale_tensors(matrix), torch.from_numpy(weights.astype(np.float64)))
        return cls(spec, tensors)

    @classmethod
    def words(cls, matrix: QuantizedMatrix) -> "PackedWeights":
        """Derive the packed layout.

        Raises
        ------
        :exc:`ValueError`
            If there is none for one of the formats; see :func:`why_not_packed`. Or as
            :meth:`dense`.
        """
        spec, tensors = pack_groups(matrix)
        spec = replace(spec, row_sum=_row_sum(matrix.integer_weights()))
        return cls(spec, (*_row_scale_tensors(matrix), *tensors))

    def to(self, device: torch.device | str) -> "PackedWeights":
        """Return the same on another device."""
        return PackedWeights(self.spec, tuple(tensor.to(device) for tensor in self.tensors))

    @property
    def code_bytes(self) -> int:
        """Bytes that a product reads of codes, scales and offsets, padding included."""
        first = 2 if self.spec.is_dense else 4
        used = self.tensors[first:] + (() if self.spec.is_dense else self.tensors[2:4])
        return sum(tensor.nbytes for tensor in used)

    def values(self) -> Tensor:
        """Return what the packed codes stand for, from the words.

        Returns
        -------
        int8 tensor, shape (N, P, G, padded_group)
            Values whose dot products are scaled; 0 in planes that a group has not.
        """
        spec = self.spec
        shape = (spec.rows, spec.sums, spec.groups, spec.padded_group)
        values = torch.zeros(shape, dtype=torch.int8, device=self.tensors[0].device)
        for bucket, parts in self.buckets():
            if spec.is_ordered:
                words = parts.words.view(-1, bucket.words, spec.rows)
                values.copy_(_bucket_values(words, bucket, parts, slice(None), spec))
                continue
            chunks = spec.padded_group // CHUNK
            starts = parts.starts.tolist()
            for group, (start, end) in enumerate(pairwise(starts)):
                size = bucket.words * chunks
                words = parts.words[start * size : end * size].view(chunks, bucket.words, -1)
                if end > start:
                    part = _bucket_values(words, bucket, parts, slice(start, end), spec)
                    rows = parts.rows[start:end].long()
                    values[rows, : bucket.sums, group] = part[:, :, 0]
        return values

    def integer_weights(self) -> Tensor:
        """Return ``w``, the weights in steps of their row's scale: int64 of shape (N, K)."""
        spec = self.spec
        if spec.is_dense:
            return self.tensors[2].to(torch.int64)
        scales, offsets = (tensor.to(torch.int64) for tensor in self.tensors[2:4])
        weights = (self.values() * scales.permute(2, 1, 0)[..., None]).sum(dim=1)
        if len(offsets):
            weights += offsets.T[..., None]
        weights = weights[..., : spec.group_size]
        return weights.flatten(1)[:, : spec.columns].contiguous()

    def buckets(self) -> list[tuple[Bucket, "BucketTensors"]]:
        """Return the buckets with their tensors."""
        return _take_buckets(self.spec, self.tensors)


@dataclass(frozen=True, slots=True, eq=False)
class BucketTensors:
    """Tensors of a bucket; those that it has not are empty. See :class:`PackedWeights`."""

    words: Tensor
    starts: Tensor
    rows: Tensor
    table_ids: Tensor
    tables: Tensor


def _check_tensors(spec: WeightSpec, tensors: tuple[Tensor, ...]) -> None:
    """Refuse tensors that a kernel would read beyond the end of, or take for others.

    What is in them is not looked at, as that waits for the device.
    """
    expected = _expected_tensors(spec, tensors)
    if len(tensors) != len(expected):
        raise ValueError(f"Weights must be {len(expected)} tensors, not {len(tensors)}")
    for tensor, (name, dtypes, shapes) in zip(tensors, expected, strict=True):
        shape = tuple(tensor.shape)
        if tensor.dtype not in dtypes or shape not in shapes or not tensor.is_contiguous():
            raise ValueError(
                f"{name} must be contiguous {' or '.join(map(dtype_name, dtypes))} of shape "
                f"{' or '.join(map(str, shapes))}, not {dtype_name(tensor.dtype)} of shape {shape} "
                f"and strides {tensor.stride()}"
            )
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(f"Weights must be on one device, not on {sorted(map(str, devices))}")
    if spec.is_dense or spec.is_ordered:
        return
    units = sum(len(parts.rows) for _, parts in _take_buckets(spec, tensors))
    if units != spec.groups * spec.rows:
        raise ValueError(
            f"Buckets must hold the {spec.groups * spec.rows} groups of the layer, not {units}"
        )


_Expected = tuple[str, tuple[torch.dtype, ...], tuple[tuple[int, ...], ...]]


def _expected_tensors(spec: WeightSpec, tensors: tuple[Tensor, ...]) -> list[_Expected]:
    """Return names, types and shapes that tensors may have."""
    expected: list[_Expected] = [
        ("Significands of row scales", (torch.float32,), ((spec.rows,),)),
        ("Exponents of row scales", (torch.int32,), ((spec.rows,),)),
    ]
    if spec.is_dense:
        return [*expected, ("Weights", (torch.float64,), ((spec.rows, spec.columns),))]
    narrow = (torch.int16, torch.int32)
    expected += [
        ("Scales", narrow, ((spec.groups, spec.sums, spec.rows),)),
        ("Offsets", narrow, ((spec.groups, spec.rows), (0, spec.rows))),
    ]
    for bucket in spec.buckets:
        units = spec.groups // spec.groups_per_chunk * spec.rows  # or chunks that groups share
        if not spec.is_ordered:
            # How many groups a bucket has, only its rows say; altogether they are all groups.
            place = len(expected) + 2
            units = tensors[place].numel() if place < len(tensors) else 0
        words = units * bucket.words * max(spec.padded_group // CHUNK, 1)
        expected.append(("Words", (torch.int32,), ((words,),)))
        if not spec.is_ordered:
            expected.append(("Starts", (torch.int32,), ((spec.groups + 1,),)))
            expected.append(("Rows", (torch.int32,), ((units,),)))
        if bucket.tables:
            ids = units * spec.groups_per_chunk
            expected.append(("Table numbers", (torch.uint8,), ((ids,),)))
            expected.append(("Tables", (torch.int32,), ((bucket.tables, 4),)))
    return expected


def _take_buckets(
    spec: WeightSpec, tensors: tuple[Tensor, ...]
) -> list[tuple[Bucket, BucketTensors]]:
    rest = list(tensors[4:])
    empty = tensors[1].new_empty(0)  # int32
    found = []
    for bucket in spec.buckets:
        words = rest.pop(0)
        starts, rows = (empty, empty) if spec.is_ordered else (rest.pop(0), rest.pop(0))
        ids, tables = (rest.pop(0), rest.pop(0)) if bucket.tables else (empty, empty)
        found.append((bucket, BucketTensors(words, starts, rows, ids, tables)))
    return found


def _row_sum(weights: npt.NDArray[np.signedinteger]) -> int:
    largest = max(int(np.abs(row.astype(np.int64)).sum()) for row in weights)
    if 2 * largest > FLOAT64_PEAK:
        raise ValueError(
            f"The weights of a row must add up to less than 2**52 in magnitude, not {largest}"
        )
    return largest


def _row_scale_tensors(matrix: QuantizedMatrix) -> tuple[Tensor, Tensor]:
    significand, exponent = split_row_scales(matrix.row_scales)
    return torch.from_numpy(significand), torch.from_numpy(exponent)


def _bucket_values(
    words: Tensor, bucket: Bucket, parts: BucketTensors, units: slice, spec: WeightSpec
) -> Tensor:
    """Return the int8 values of words (chunks, words, U), as (U, sums, groups, padded_group)."""
    per_sum = words.unflatten(1, (bucket.sums, -1)).unbind(dim=1)
    codes = torch.stack(
        [unpack_words(part, bucket.code_width, selectors=bucket.tables > 0) for part in per_sum],
        dim=1,
    ).unflatten(2, (-1, spec.padded_group))
    if not bucket.tables:
        return codes.view(torch.int8)
    tables = parts.tables.view(torch.int8)
    ids = parts.table_ids[units].long()
    ids = ids.view(-1, codes.shape[0]).T if spec.is_ordered else ids[:, None]
    return tables[ids[:, None, :, None], codes.long()]
