"""Products of a few tokens as a kernel: packed codes are read once and multiplied by ``dp4a``."""

import triton
import triton.language as tl

from .kernel_bits import code_words, dp4a, locate, quad_of, table_of

__all__ = ["decode_kernel"]


@triton.jit
def decode_kernel(
    partial,
    digits,
    words,
    scales,
    offsets,
    starts,
    unit_rows,
    table_ids,
    tables,
    rows,
    row_quads,
    segments,
    digit_columns,
    WIDTH: tl.constexpr,
    SUMS: tl.constexpr,
    ALL_SUMS: tl.constexpr,
    TABLES: tl.constexpr,
    HAS_OFFSETS: tl.constexpr,
    IS_ORDERED: tl.constexpr,
    CHUNKS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    SHARED: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    SPLIT: tl.constexpr,
    PORTABLE: tl.constexpr,
):
    """Add the sums of some rows over a part of the columns to ``partial``.

    A segment is ``CHUNKS`` chunks of one group, or one chunk that ``SHARED`` short groups share. At
    the end of each group's part of a segment the int32 dot product of every digit is scaled and
    added to an int64; all of that is exact, so no order of anything matters.

    Parameters
    ----------
    partial : pointer to int64, shape (digit_columns, rows)
        Zeros, if there is more than one program for a row.
    digits : pointer to int32, shape (digit_columns, row_quads)
        Digits of the aligned activations, four to a word.
    words, scales, offsets, starts, unit_rows, table_ids, tables : pointer
        See :class:`PackedWeights`.
    rows, row_quads, segments, digit_columns : int
        Rows of the layer; quads of a packed row; segments of a row; tokens times digits.
    ALL_SUMS, SEGMENTS : constexpr
        Sums of the bucket that has the most; segments of a group.
    COLUMNS, ROWS, SPLIT : constexpr
        Power of two that holds ``digit_columns``; rows of a program; programs along K.
    """
    unit = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    has_column = column < digit_columns
    digits += column * row_quads
    partial += column.to(tl.int64)[:, None] * rows
    part = tl.program_id(1)
    zero = part.to(tl.int64) * 0  # makes indices wide
    total = tl.zeros((COLUMNS, ROWS), tl.int64)
    row = unit
    mask = unit < rows
    # One loop over segments and planes: the digits that all planes take would else be loaded once
    # and kept in registers, of which there are not that many.
    for step in range(segments * part // SPLIT * SUMS, segments * (part + 1) // SPLIT * SUMS):
        segment = step // SUMS
        plane = step % SUMS
        planes = unit * 0 + plane  # for masks
        block = zero + segment // SEGMENTS  # the group, or the chunk that groups share
        start, count, row, mask = locate(starts, unit_rows, unit, block, rows, IS_ORDERED)
        chunk = start * (SEGMENTS * CHUNKS) + (zero + segment % SEGMENTS) * CHUNKS * count
        chunk_words = words + chunk * (SUMS * WIDTH) + unit
        dot = tl.zeros((COLUMNS, ROWS), tl.int32)
        digit_sum = tl.zeros((COLUMNS,), tl.int32)
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
                low[quad % 8 // 2],
                high[quad % 8 // 2],
                table,
                quad % 2,
                WIDTH,
                TABLES,
                PORTABLE,
            )
            x = tl.load(
                digits + segment * (8 * CHUNKS) + quad,
                mask=has_column,
                other=0,
                eviction_policy="evict_last",
            )
            dot = dp4a(
                tl.broadcast_to(value[None, :], (COLUMNS, ROWS)),
                tl.broadcast_to(x[:, None], (COLUMNS, ROWS)),
                dot,
                PORTABLE,
            )
            if HAS_OFFSETS:
                digit_sum = dp4a(x, x * 0 + 0x01010101, digit_sum, PORTABLE)
            if (quad + 1) % (8 * CHUNKS // SHARED) == 0:
                group = block * SHARED + quad * SHARED // (8 * CHUNKS)
                scale = tl.load(
                    scales + (group * ALL_SUMS + plane) * rows + row, mask=mask, other=0
                )
                total += dot.to(tl.int64) * scale.to(tl.int64)[None, :]
                dot = tl.zeros((COLUMNS, ROWS), tl.int32)
                if HAS_OFFSETS:
                    offset = tl.load(
                        offsets + group * rows + row, mask=mask & (planes == 0), other=0
                    )
                    total += digit_sum.to(tl.int64)[:, None] * offset.to(tl.int64)[None, :]
                    digit_sum = tl.zeros((COLUMNS,), tl.int32)
        if not IS_ORDERED:
            tl.atomic_add(
                partial + row[None, :],
                total,
                mask=has_column[:, None] & (mask & (planes == SUMS - 1))[None, :],
                sem="relaxed",
            )
            total = tl.where((planes == SUMS - 1)[None, :], 0, total)
    if IS_ORDERED:
        target = partial + row[None, :]
        both = has_column[:, None] & mask[None, :]
        if SPLIT == 1:
            tl.store(target, total, mask=both)
        else:
            tl.atomic_add(target, total, mask=both, sem="relaxed")
