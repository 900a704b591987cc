"""The output conversion as a kernel: section 4 of the arithmetic contract, from bit fields."""

import triton
import triton.language as tl

__all__ = ["output_kernel"]


@triton.jit
def output_kernel(
    partial,
    exponents,
    flags,
    significands,
    row_exponents,
    y,
    rows,
    DIGITS: tl.constexpr,
    OUTPUT: tl.constexpr,
    QUIET_NAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add up the digits' sums of one token and some rows, and convert.

    Parameters
    ----------
    partial : pointer to int64, shape (M, DIGITS, N)
        Sums of each digit, which is worth 128 times the one before.
    exponents, flags : pointer to int32 and uint8, shape (M,)
    significands, row_exponents : pointer to float32 and int32, shape (N,)
    y : pointer to int64, int32 or int16, shape (M, N)
        The sums, or the bits of the outputs.
    OUTPUT : constexpr
        ``int``, ``float32``, ``float16`` or ``bfloat16``.
    QUIET_NAN : constexpr
        Bits of its NaN.
    """
    token = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = row < rows
    partial += token * DIGITS * rows + row
    total = tl.zeros((BLOCK,), tl.int64)
    for digit in tl.static_range(DIGITS):
        total += tl.load(partial + digit * rows, mask=mask, other=0) << (7 * digit)
    y += token * rows + row
    if OUTPUT == "int":
        tl.store(y, total, mask=mask)
    else:
        significand = tl.load(significands + row, mask=mask, other=0.0)
        product = total.to(tl.float32) * significand
        bits = product.to(tl.int32, bitcast=True)
        field = ((bits >> 23) & 0xFF) + tl.load(exponents + token)
        field += tl.load(row_exponents + row, mask=mask, other=0)
        field = tl.minimum(tl.maximum(field, 0), 0xFF)
        in_range = (field > 0) & (field < 0xFF)
        magnitude = tl.where(in_range, bits & 0x7FFFFF, 0) | (field << 23)
        # The only exact zeros, of either sign: nothing above underflows.
        is_zero = (bits & 0x7FFFFFFF) == 0
        magnitude = tl.where(is_zero, 0, magnitude)
        sign = tl.where((bits < 0) & (is_zero == 0), 1, 0)
        flagged = tl.load(flags + token) != 0
        if OUTPUT == "float32":
            result = magnitude | (sign << 31)
        elif OUTPUT == "bfloat16":
            result = ((magnitude + 0x7FFF + ((magnitude >> 16) & 1)) >> 16) | (sign << 15)
        else:
            result = _half_bits(magnitude) | (sign << 15)
        result = tl.where(flagged, QUIET_NAN, result)
        tl.store(y, result.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _half_bits(magnitude):
    """Round float32 bits without sign, no NaN, to those of float16, half to even."""
    # From 2**-14 on the exponent moves by 112 and 13 fraction bits go; carries go the right way.
    normal = magnitude - (112 << 23)
    normal = (normal + 0xFFF + ((normal >> 13) & 1)) >> 13
    # Below, the significand is shifted until its unit is 2**-24.
    significand = (magnitude & 0x7FFFFF) | 0x800000
    places = tl.minimum(tl.maximum(126 - (magnitude >> 23), 1), 26)
    floor = significand >> places
    rest = significand - (floor << places)
    subnormal = floor + ((2 * rest + (floor & 1)) > (places * 0 + 1 << places)).to(tl.int32)
    result = tl.where(magnitude < 0x38800000, subnormal, normal)
    return tl.where(magnitude >= 0x477FF000, 0x7C00, result)
