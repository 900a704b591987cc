"""Quantised matrices for tests: random ones, and those that try an engine hardest."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..formats import (
    CodebookFormat,
    CodebookSlot,
    Family,
    NumberFormat,
    QuantizedMatrix,
    family,
    signed_power_terms,
)

__all__ = ["adversarial_matrices", "random_matrix"]

_EXTREME_ROW_SCALES = {
    "row_scales_zero": (0.0, 1.0, -0.0),
    "row_scales_subnormal": (2.0**-149, -(2.0**-126) + 2.0**-149, 3 * 2.0**-140),
    "row_scales_smallest": (2.0**-126, -(2.0**-126), (1 + 2.0**-23) * 2.0**-125),
    "row_scales_largest": ((2 - 2.0**-23) * 2.0**127, -(2.0**127)),
}


def random_matrix(
    formats: str | Family | Sequence[NumberFormat],
    rows: int,
    columns: int,
    group_size: int,
    *,
    seed: int,
    scale_width: int = 8,
) -> QuantizedMatrix:
    """Return a matrix of random codes, scales of both signs, zero-points and row scales.

    Parameters
    ----------
    formats : str, Family or sequence of NumberFormat
        A family of the catalogue, or formats of any widths; each group takes one at random. A
        codebook's slot gets random entries that fit it.
    rows, columns : int
        N and K.
    group_size : int
        Columns of one group.
    seed : int
        The same arguments give the same matrix.
    scale_width : int
        Magnitude bits of a group scale.

    Returns
    -------
    QuantizedMatrix
    """
    members = tuple(
        _random_codebook(item, seed) if isinstance(item, CodebookSlot) else item
        for item in _members(formats)
    )
    rng = np.random.default_rng(seed)
    groups = -(-columns // group_size)
    format_ids = rng.integers(0, len(members), (rows, groups), dtype=np.uint8)
    widths = np.array([item.code_width for item in members])[format_ids]
    scale_counts = np.array([item.scale_count for item in members])
    limit = (1 << scale_width) - 1
    scales = rng.integers(-limit, limit + 1, (rows, groups, scale_counts.max()), dtype=np.int32)
    scales[np.arange(scales.shape[2]) >= scale_counts[format_ids][..., None]] = 0
    has_zero = np.array([item.has_zero_point for item in members])[format_ids]
    zeros = rng.integers(0, 256, (rows, groups)) & ((1 << widths) - 1)
    code_masks = np.repeat((1 << widths) - 1, group_size, axis=1)[:, :columns]
    row_scales = rng.uniform(1, 2, rows) * 2.0 ** rng.integers(-24, -7, rows)
    row_scales *= rng.choice([-1, 1], rows)
    return QuantizedMatrix(
        members=members,
        group_size=group_size,
        codes=(rng.integers(0, 256, (rows, columns)) & code_masks).astype(np.uint8),
        format_ids=format_ids,
        scales=scales,
        zeros=np.where(has_zero, zeros, 0).astype(np.uint8),
        row_scales=row_scales.astype(np.float32),
        scale_width=scale_width,
    )


def adversarial_matrices(
    formats: str | Family | Sequence[NumberFormat],
    rows: int,
    columns: int,
    group_size: int,
    *,
    seed: int,
    scale_width: int = 8,
) -> dict[str, QuantizedMatrix]:
    """Return matrices that reach the corners of the arithmetic, by name.

    Where a case is not about codes, formats and scales, they are those of :func:`random_matrix`
    with the same arguments.

    Parameters
    ----------
    formats : str, Family or sequence of NumberFormat
        A family of the catalogue, or formats of any widths.
    rows, columns : int
        N and K.
    group_size : int
        Columns of one group.
    seed : int
        The same arguments give the same matrices.
    scale_width : int
        Magnitude bits of a group scale.

    Returns
    -------
    dict of str to QuantizedMatrix
    """
    base = random_matrix(formats, rows, columns, group_size, seed=seed, scale_width=scale_width)
    largest, lowest = _extreme(base, 1), _extreme(base, -1)
    is_odd = np.arange(columns) % 2 == 1
    no_scales = np.zeros_like(base.scales)
    every_second = np.arange(base.groups, dtype=np.int32)[:, None] % 2
    matrices = {
        "all_largest": largest,
        "all_lowest": lowest,
        # One scale serves both codes, so the odd columns hold whatever is farthest away from it.
        "alternating": replace(
            largest, codes=np.where(is_odd, _farthest_codes(largest), largest.codes)
        ),
        "negative_scales": replace(base, scales=-np.abs(base.scales)),
        "some_scales_zero": replace(base, scales=base.scales * every_second),
        "all_scales_zero": replace(base, scales=no_scales),
    }
    for name, values in _EXTREME_ROW_SCALES.items():
        row_scales = np.resize(np.array(values, dtype=np.float32), rows)
        matrices[name] = replace(base, row_scales=row_scales)
    return matrices


def _members(formats: str | Family | Sequence[NumberFormat]) -> tuple[NumberFormat, ...]:
    if isinstance(formats, str):
        formats = family(formats)
    return formats.members if isinstance(formats, Family) else tuple(formats)


def _random_codebook(slot: CodebookSlot, seed: int) -> CodebookFormat:
    """Draw entries that the slot can hold."""
    rng = np.random.default_rng([seed, slot.code_width])
    fitting = [
        value
        for value in range(-slot.peak, slot.peak)
        if not slot.term_count or len(signed_power_terms(value)) <= slot.term_count
    ]
    return CodebookFormat.of(rng.choice(fitting, 1 << slot.code_width).tolist())


def _extreme(base: QuantizedMatrix, sign: int) -> QuantizedMatrix:
    """Give every weight the value farthest from 0 with this sign, of its row's widest format."""
    limit = (1 << base.scale_width) - 1
    candidates = [
        (weight, -index, code, zero, scale)
        for index, item in enumerate(base.members)
        for scale in (limit, -limit)
        for weight, code, zero in [_extreme_weight(item, scale, sign)]
    ]
    _, negated_index, code, zero, scale = max(candidates)
    item = base.members[-negated_index]
    scales = np.zeros_like(base.scales)
    scales[..., : item.scale_count] = scale
    return replace(
        base,
        codes=np.full_like(base.codes, code),
        format_ids=np.full_like(base.format_ids, -negated_index),
        scales=scales,
        zeros=np.full_like(base.zeros, zero),
    )


def _extreme_weight(item: NumberFormat, scale: int, sign: int) -> tuple[int, int, int]:
    """Return the weight farthest from 0 with this sign, its code, and its zero-point's code."""
    table = sign * item.weight_table(np.full(item.scale_count, scale))
    code = int(table.argmax())
    zero = int(table.argmin()) if item.has_zero_point else 0
    return int(table[code] - (table[zero] if item.has_zero_point else 0)), code, zero


def _farthest_codes(matrix: QuantizedMatrix) -> npt.NDArray[np.uint8]:
    """Return, for a matrix with one format and one scale, the code of the lowest weight."""
    item = matrix.members[matrix.format_ids[0, 0]]
    table = item.weight_table(matrix.scales[0, 0, : item.scale_count])
    return np.full_like(matrix.codes, int(table.argmin()))
