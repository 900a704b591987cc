"""Products of many tokens as two kernels: codes become int8 once, then tensor cores multiply."""

import triton
import triton.language as tl

from .kernel_bits import code_words, locate, quad_of, table_of

__all__ = ["prefill_kernel", "values_kernel"]


@triton.jit
def values_kernel(
    values,
    words,
    starts,
    unit_rows,
    table_ids,
    tables,
    rows,
    plane_quads,
    WIDTH: tl.constexpr,
    SUMS: tl.constexpr,
    ALL_SUMS: tl.constexpr,
    TABLES: tl.constexpr,
    IS_ORDERED: tl.constexpr,
    CHUNKS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    SHARED: tl.constexpr,
    ROWS: tl.constexpr,
    PORTABLE: tl.constexpr,
):
    """Write the int8 values of one segment of some rows.

    Parameters
    ----------
    values : pointer to int32, shape (rows, ALL_SUMS, plane_quads)
        Four values to a word. Groups that share a chunk get one each; what is left over in it, and
        planes that a group has not, are not written.
    words, starts, unit_rows, table_ids, tables : pointer
        See :class:`PackedWeights`.
    rows, plane_quads : int
        Rows of the layer; quads of one plane of a row.
    """
    unit = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    segment = tl.program_id(1)
    zero = segment.to(tl.int64) * 0  # makes indices wide
    block = zero + segment // SEGMENTS
    start, count, row, mask = locate(starts, unit_rows, unit, block, rows, IS_ORDERED)
    chunk = start * (SEGMENTS * CHUNKS) + (zero + segment % SEGMENTS) * CHUNKS * count
    chunk_words = words + chunk * (SUMS * WIDTH) + unit
    for plane in tl.static_range(SUMS):
        target = values + (row.to(tl.int64) * ALL_SUMS + plane) * plane_quads
        table = (0, 0, 0, 0)
        for quad in tl.static_range(8 * CHUNKS):
            if quad % 8 == 0:
                field = chunk_words + (quad // 8 * SUMS + plane) * WIDTH * count
                low, high = code_words(field, count, mask, WIDTH)
            if TABLES and quad % (8 * CHUNKS // SHARED) == 0:
                # Of each group of a shared chunk; only ordered layers have such.
                place = start * SHARED + quad * SHARED // (8 * CHUNKS) * rows
                table = table_of(tables, table_ids + place + unit, mask)
            value = quad_of(
                low[quad % 8 // 2], high[quad % 8 // 2], table, quad % 2, WIDTH, TABLES, PORTABLE
            )
            place = segment * (8 * CHUNKS) + quad
            if SHARED > 1:
                place = (block * SHARED + quad * SHARED // 8) * 8 + quad % (8 // SHARED)
            tl.store(target + place, value, mask=mask)


@triton.jit
def prefill_kernel(
    partial,
    digits,
    values,
    scales,
    offsets,
    rows,
    columns,
    segments,
    digit_columns,
    SUMS: tl.constexpr,
    HAS_OFFSETS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    STEPS: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Add the sums of a tile of rows and digit columns over a part of K to ``partial``.

    Parameters
    ----------
    partial : pointer to int64, shape (digit_columns, rows)
        Zeros, if ``SPLIT`` is more than 1.
    digits : pointer to int8, shape (digit_columns, columns)
    values : pointer to int8, shape (rows, SUMS, columns)
    scales, offsets : pointer to int16 or int32, shape (groups, SUMS, rows) and (groups, rows)
    rows, columns, segments, digit_columns : int
        Rows of the layer; columns with padding; segments of a row; tokens times digits.
    SEGMENTS : constexpr
        Segments of a group, each of ``STEPS`` products of ``DEPTH`` columns.
    ROWS, COLUMNS, SPLIT : constexpr
        The tile; programs along K.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(2)
    has_row, has_column = row < rows, column < digit_columns
    depth = tl.arange(0, DEPTH)
    x_tile = digits + column.to(tl.int64)[None, :] * columns + depth[:, None]
    w_tile = values + row.to(tl.int64)[:, None] * (SUMS * columns) + depth[None, :]
    zero = part.to(tl.int64) * 0  # makes indices wide
    total = tl.zeros((ROWS, COLUMNS), tl.int64)
    for segment in range(segments * part // SPLIT, segments * (part + 1) // SPLIT):
        group = zero + segment // SEGMENTS
        first = segment * (STEPS * DEPTH)
        for plane in tl.static_range(SUMS):
            w_plane = w_tile + plane * columns
            if STEPS == 1:  # without a loop of its own, so that loads of the outer one overlap
                dot, digit_sum = _step(w_plane, x_tile, first, has_row, has_column)
            else:
                dot = tl.zeros((ROWS, COLUMNS), tl.int32)
                digit_sum = tl.zeros((COLUMNS,), tl.int32)
                for step in range(STEPS):
                    k = first + step * DEPTH
                    more, more_digits = _step(w_plane, x_tile, k, has_row, has_column)
                    dot += more
                    digit_sum += more_digits
            scale = tl.load(scales + (group * SUMS + plane) * rows + row, mask=has_row, other=0)
            total += dot.to(tl.int64) * scale.to(tl.int64)[:, None]
            if plane == 0 and HAS_OFFSETS:
                offset = tl.load(offsets + group * rows + row, mask=has_row, other=0)
                total += offset.to(tl.int64)[:, None] * digit_sum.to(tl.int64)[None, :]
    target = partial + column.to(tl.int64)[None, :] * rows + row[:, None]
    mask = has_row[:, None] & has_column[None, :]
    if SPLIT == 1:
        tl.store(target, total, mask=mask)
    else:
        tl.atomic_add(target, total, mask=mask, sem="relaxed")


@triton.jit
def _step(w_tile, x_tile, k, has_row, has_column):
    """Return the product of two tiles, int32, and the sums of the digits' columns."""
    x = tl.load(x_tile + k, mask=has_column[None, :], other=0)
    w = tl.load(w_tile + k, mask=has_row[:, None], other=0)
    return tl.dot(w, x, out_dtype=tl.int32), tl.sum(x.to(tl.int32), axis=0)
