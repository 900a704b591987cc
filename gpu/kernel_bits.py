"""Device functions: from packed words to bytes that are multiplied, four to a register.

See :mod:`.words` for the layout. Every function has a portable form, for Triton's interpreter and
for GPUs without PTX, and both compute the same.
"""

import triton
import triton.language as tl

__all__ = ["code_words", "dp4a", "locate", "nibble_words", "permute_bytes", "quad_of", "table_of"]


@triton.jit
def dp4a(a, b, c, PORTABLE: tl.constexpr):
    """Return ``c`` plus the dot product of the four signed bytes of ``a`` and ``b``; int32."""
    if PORTABLE:
        for byte in tl.static_range(4):
            c += (((a >> (8 * byte)) << 24) >> 24) * (((b >> (8 * byte)) << 24) >> 24)
        return c
    return tl.inline_asm_elementwise(
        "dp4a.s32.s32 $0, $1, $2, $3;",
        "=r,r,r,r",
        [a, b, c],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )


@triton.jit
def permute_bytes(a, b, selector, PORTABLE: tl.constexpr):
    """Return four of the eight bytes of ``a`` (0 to 3) and ``b`` (4 to 7), as four nibbles say.

    The top bit of a nibble must be 0. PTX's ``prmt``.
    """
    if PORTABLE:
        chosen = a * 0
        for byte in tl.static_range(4):
            index = (selector >> (4 * byte)) & 7
            source = tl.where(index < 4, a, b)
            chosen |= ((source >> (8 * (index & 3))) & 0xFF) << (8 * byte)
        return chosen
    return tl.inline_asm_elementwise(
        "prmt.b32 $0, $1, $2, $3;",
        "=r,r,r,r",
        [a, b, selector],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )


@triton.jit
def nibble_words(words, stride, mask, WIDTH: tl.constexpr):
    """Load a field of a chunk and return its four nibble words.

    ``words`` points to the field's first word, one for each row; the next is ``stride`` further.
    """
    first = tl.load(words, mask=mask, other=0, eviction_policy="evict_first")
    if WIDTH == 1:
        ones: tl.constexpr = 0x11111111
        return first & ones, (first >> 1) & ones, (first >> 2) & ones, (first >> 3) & ones
    second = tl.load(words + stride, mask=mask, other=0, eviction_policy="evict_first")
    if WIDTH == 4:
        third = tl.load(words + 2 * stride, mask=mask, other=0, eviction_policy="evict_first")
        fourth = tl.load(words + 3 * stride, mask=mask, other=0, eviction_policy="evict_first")
        return first, second, third, fourth
    threes: tl.constexpr = 0x33333333
    low0, low1 = first & threes, (first >> 2) & threes
    low2, low3 = second & threes, (second >> 2) & threes
    if WIDTH == 2:
        return low0, low1, low2, low3
    top = tl.load(words + 2 * stride, mask=mask, other=0, eviction_policy="evict_first")
    fours: tl.constexpr = 0x44444444
    return (
        low0 | ((top << 2) & fours),
        low1 | ((top << 1) & fours),
        low2 | (top & fours),
        low3 | ((top >> 1) & fours),
    )


@triton.jit
def quad_of(
    nibbles,
    high,
    table,
    ODD: tl.constexpr,
    WIDTH: tl.constexpr,
    TABLES: tl.constexpr,
    PORTABLE: tl.constexpr,
):
    """Return the bytes of one of the two quads of a nibble word.

    Parameters
    ----------
    nibbles, high : int32
        Nibble words of the low field and, for codes of more than 4 bits, of the high one.
    table : four int32
        The value table, four entries each, if there are tables.
    ODD : constexpr
        Which of the two.
    WIDTH, TABLES : constexpr
        Code width; number of tables, 0 if codes are values.
    """
    if TABLES:
        selector = (nibbles >> 16) if ODD else nibbles
        value = permute_bytes(table[0], table[1], selector & 0x7777, PORTABLE)
        if WIDTH == 4:
            upper = permute_bytes(table[2], table[3], selector & 0x7777, PORTABLE)
            # Byte i of the one or of the other, as the top bit of nibble i says.
            which = 0x3210 | ((selector & 0x8888) >> 1)
            value = permute_bytes(value, upper, which, PORTABLE)
        return value
    value = ((nibbles >> 4) if ODD else nibbles) & 0x0F0F0F0F
    if WIDTH > 4:
        # The high nibbles of bytes; the constant is 0xF0F0F0F0 as an int32.
        value |= (high if ODD else (high << 4)) & -0x0F0F0F10
    return value


@triton.jit
def code_words(words, stride, mask, WIDTH: tl.constexpr):
    """Load a chunk's codes: the nibble words of the low field, and those of the high one."""
    if WIDTH <= 4:
        low = nibble_words(words, stride, mask, WIDTH)
        return low, low
    low = nibble_words(words, stride, mask, 4)
    return low, nibble_words(words + 4 * stride, stride, mask, WIDTH - 4)


@triton.jit
def table_of(tables, table_ids, mask):
    """Load the value tables, four words each, that units name."""
    table = tables + tl.load(table_ids, mask=mask, other=0).to(tl.int32) * 4
    return tl.load(table), tl.load(table + 1), tl.load(table + 2), tl.load(table + 3)


@triton.jit
def locate(starts, unit_rows, unit, block, rows, IS_ORDERED: tl.constexpr):
    """Return where the units of a group are: the first, how many, their rows, and which exist."""
    if IS_ORDERED:
        return block * rows, rows, unit, unit < rows
    start = tl.load(starts + block).to(tl.int64)
    count = (tl.load(starts + block + 1) - start).to(tl.int32)
    mask = unit < count
    return start, count, tl.load(unit_rows + start + unit, mask=mask, other=0), mask
