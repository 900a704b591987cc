import numpy as np
import pytest
import torch

from lutra.formats import FLOATS
from lutra.gpu import convert_output, from_numpy, split_row_scales
from lutra.gpu.dtypes import BIT_DTYPES
from lutra.gpu.kernel_output import output_kernel

BLOCK = 1024


def edges(rng):
    powers = 1 << np.arange(63, dtype=np.int64)
    halves = powers[24:] + (powers[24:] >> 24)
    near = np.concatenate([powers, halves, powers[24:] + 3 * (powers[24:] >> 24)])
    near = np.concatenate([near - 1, near, near + 1])
    sums = np.concatenate([near, rng.integers(0, 1 << 62, 500) >> rng.integers(0, 62, 500), [0]])
    return np.resize(sums * rng.choice([-1, 1], len(sums)), BLOCK)


def run(sums, exponent, scales, flags, output, device):
    significand, row_exponent = (from_numpy(part).to(device) for part in split_row_scales(scales))
    tokens, rows = sums.shape
    y = torch.empty(tokens, rows, dtype=BIT_DTYPES[output], device=device)
    # Digits of base 128: the lowest as it is, the rest as a second one.
    total = from_numpy(sums)
    partial = torch.stack([total & 127, total >> 7], dim=1).to(device)
    arguments = [partial, from_numpy(exponent).to(device), from_numpy(flags).to(device)]
    output_kernel[(tokens, -(-rows // BLOCK))](
        *arguments,
        significand,
        row_exponent,
        y,
        rows,
        DIGITS=2,
        OUTPUT=output,
        QUIET_NAN=FLOATS[output].quiet_nan,
        BLOCK=BLOCK,
        enable_fp_fusion=False,
    )
    expected = convert_output(
        total,
        from_numpy(exponent),
        *(from_numpy(part) for part in split_row_scales(scales)),
        output,
        from_numpy(flags).bool(),
    )
    assert torch.equal(y.cpu(), expected.view(BIT_DTYPES[output]))


@pytest.mark.parametrize("output", FLOATS)
def test_edges(output, device):
    rng = np.random.default_rng(1)
    patterns = rng.integers(0, 1 << 32, BLOCK, dtype=np.uint32)
    patterns[:6] = 0, 1 << 31, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF
    patterns[6:400] = patterns[6:400] & 0x807FFFFF | 0x3F000000
    scales = patterns.view(np.float32)
    scales = np.where(np.isfinite(scales), scales, 1).astype(np.float32)
    exponent = np.arange(-171, 128, 5, dtype=np.int32)
    sums = np.stack([np.roll(edges(rng), shift) for shift in range(len(exponent))])
    flags = (rng.integers(0, 8, len(exponent)) == 0).astype(np.uint8)
    run(sums, exponent, scales, flags, output, device)


@pytest.mark.parametrize("output", ["float16", "bfloat16"])
def test_ties_and_ends_of_16_bits(output, device):
    # float32 numbers around every place where rounding to the narrow type changes, and more rows
    # than a block: sums are 24-bit significands, exponents cover the narrow type's range.
    rng = np.random.default_rng(2)
    dropped = 23 - FLOATS[output].fraction_width
    kept = rng.integers(0, 1 << (23 - dropped), 300)
    ends = [0, 1, (1 << dropped - 1) - 1, 1 << dropped - 1, (1 << dropped - 1) + 1]
    sums = 1 << 23 | (kept[:, None] << dropped) | np.array(ends)
    subnormal = 1 << np.arange(23)[:, None] | 1 << np.arange(23)
    sums = np.concatenate([sums.ravel(), subnormal.ravel(), [0xFFF000, 0xFFEFFF, 0xFFF001]])
    exponent = (
        np.arange(-52, -4, 2, dtype=np.int32)
        if output == "float16"
        else np.arange(-150, 106, 17, dtype=np.int32)
    )
    sums = np.resize(sums, (len(exponent), len(sums)))
    scales = np.resize(np.array([1, -1], dtype=np.float32), sums.shape[1])
    run(sums, exponent, scales, np.zeros(len(exponent), dtype=np.uint8), output, device)
