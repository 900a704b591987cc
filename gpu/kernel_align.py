"""The aligner as a kernel: section 1 of the arithmetic contract, from bit fields."""

import triton
import triton.language as tl

__all__ = ["align_kernel"]


@triton.jit
def align_kernel(
    x,
    given,
    digits,
    exponents,
    flags,
    columns,
    group_size,
    padded_group,
    padded_columns,
    IS_FLOAT: tl.constexpr,
    IS_EXACT: tl.constexpr,
    IS_GIVEN: tl.constexpr,
    FRACTION: tl.constexpr,
    BIAS: tl.constexpr,
    INFINITY: tl.constexpr,
    ALIGNED: tl.constexpr,
    ZERO_TOKEN: tl.constexpr,
    DIGITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Align one token a program and write its digits of base 128, signed bytes.

    Parameters
    ----------
    x : pointer to int8, int16 or int32, shape (M, K)
        Activations as integers of their bits.
    given : pointer to int32, shape (M,)
        Exponents of the steps, where ``IS_GIVEN``.
    digits : pointer to int8, shape (M, DIGITS, padded_columns)
        Lowest digit first, groups padded with zeros. All but the highest are from 0 to 127.
    exponents, flags : pointer to int32 and uint8, shape (M,)
    columns, group_size, padded_group, padded_columns : int
    FRACTION, BIAS, INFINITY : constexpr
        Of the float type: fraction bits, exponent bias, bits of infinity.
    ALIGNED : constexpr
        Bits of an aligned activation.
    """
    token = tl.program_id(0).to(tl.int64)
    x += token * columns
    digits += token * DIGITS * padded_columns
    lane = tl.arange(0, BLOCK)
    exponent = 0
    flagged = token < 0
    if IS_FLOAT:
        top = tl.zeros((BLOCK,), tl.int32)
        for first in range(0, columns, BLOCK):
            bits = tl.load(x + first + lane, mask=first + lane < columns, other=0)
            top = tl.maximum(top, bits.to(tl.int32) & (INFINITY | ((1 << FRACTION) - 1)))
        largest = tl.max(top, axis=0)
        flagged = largest >= INFINITY
        if IS_EXACT:
            exponent = 1 - BIAS - FRACTION
        else:
            if IS_GIVEN:
                exponent = tl.load(given + token)
            else:
                exponent = _step_exponent(
                    tl.where(flagged, 0, largest), FRACTION, BIAS, ALIGNED, ZERO_TOKEN
                )
            exponent = tl.where(exponent == ZERO_TOKEN, 0, exponent)
    tl.store(exponents + token, exponent)
    tl.store(flags + token, flagged)

    for first in range(0, padded_columns, BLOCK):
        place = first + lane
        within = place % padded_group
        column = place // padded_group * group_size + within
        valid = (within < group_size) & (column < columns)
        bits = tl.load(x + column, mask=valid, other=0)
        if IS_FLOAT:
            magnitude = bits.to(tl.int32) & (INFINITY | ((1 << FRACTION) - 1))
            magnitude = tl.where(flagged, 0, magnitude)
            field = magnitude >> FRACTION
            significand = (magnitude & ((1 << FRACTION) - 1)) | (tl.minimum(field, 1) << FRACTION)
            shift = tl.maximum(field, 1) - (BIAS + FRACTION) - exponent
            # Two places beyond the significand already give 0, and wider shifts are undefined.
            left = tl.minimum(tl.maximum(shift, 0), ALIGNED).to(tl.int64)
            right = tl.minimum(tl.maximum(-shift, 0), FRACTION + 2).to(tl.int64)
            value = significand.to(tl.int64) << left
            floor = value >> right
            rest = value - (floor << right)
            # Above half, or at half with an odd floor.
            value = floor + ((2 * rest + (floor & 1)) > (right * 0 + 1 << right)).to(tl.int64)
            if not IS_EXACT:
                value = tl.minimum(value, (1 << (ALIGNED - 1)) - 1)
            value = tl.where(bits < 0, -value, value)
        else:
            value = bits.to(tl.int64)
        inside = place < padded_columns
        for digit in tl.static_range(DIGITS - 1):
            tl.store(
                digits + digit * padded_columns + place, (value & 127).to(tl.int8), mask=inside
            )
            value = value >> 7
        tl.store(digits + (DIGITS - 1) * padded_columns + place, value.to(tl.int8), mask=inside)


@triton.jit
def _step_exponent(
    largest,
    FRACTION: tl.constexpr,
    BIAS: tl.constexpr,
    ALIGNED: tl.constexpr,
    ZERO_TOKEN: tl.constexpr,
):
    """Return the exponent of one step from the bits of the largest magnitude."""
    field = largest >> FRACTION
    significand = (largest & ((1 << FRACTION) - 1)) | (tl.minimum(field, 1) << FRACTION)
    # At most 24 bits, so exact in float32, whose exponent field is the place of the top bit.
    top_bit = (significand.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
    exponent = top_bit + tl.maximum(field, 1) - BIAS - FRACTION + 2 - ALIGNED
    return tl.where(largest > 0, exponent, ZERO_TOKEN)
