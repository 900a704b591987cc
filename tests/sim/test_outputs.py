import numpy as np
import pytest

from lutra.formats import FLOATS
from lutra.sim import DTYPES, convert_output

OUTPUTS = list(FLOATS)
MAX = np.finfo(np.float32).max
SUBNORMAL = np.float32(2.0**-149)
EXACT_SCALES = np.array(
    [1, -1, 0, -0.0, 1.5, -(2.0**-126), SUBNORMAL, -3 * SUBNORMAL, MAX, -MAX, 1 + 2.0**-23, 1 / 3],
    dtype=np.float32,
)


def _bits(array):
    return array.view(f"u{array.itemsize}")


def _check(contract, sums, exponents, row_scales, output):
    flags = np.zeros(len(exponents), dtype=np.bool_)
    y = convert_output(sums, exponents, row_scales, output, flags)
    assert y.dtype == DTYPES[output]
    expected = [
        [
            contract.convert(int(total), int(exponent), scale, output)
            for total, scale in zip(row, row_scales, strict=True)
        ]
        for row, exponent in zip(sums, exponents, strict=True)
    ]
    assert _bits(y).tolist() == expected


def _sums(rng, count):
    """Make sums of every length, many of them halfway between two float32 or right beside."""
    widths = rng.integers(1, 63, count)
    sums = rng.integers(0, 1 << 62, count) >> (62 - widths)
    places = np.maximum(widths - 24, 1)
    halfway = (sums >> places << places) + (1 << places - 1) + rng.integers(-1, 2, count)
    sums = np.where(rng.integers(0, 2, count), halfway, sums)
    edges = [0, 1, (1 << 24) - 1, (1 << 24) + 1, (1 << 24) + 3, (1 << 25) - 1, (1 << 62) - 1]
    sums[: len(edges)] = edges
    return sums * rng.choice([-1, 1], count)


@pytest.mark.parametrize("output", OUTPUTS)
def test_all_lengths_of_sum(output, contract):
    rng = np.random.default_rng(3)
    sums = _sums(rng, 40 * 12).reshape(40, 12)
    exponents = rng.integers(-70, 5, 40, dtype=np.int32)
    _check(contract, sums, exponents, EXACT_SCALES, output)


@pytest.mark.parametrize("output", OUTPUTS)
def test_random_row_scales(output, contract):
    rng = np.random.default_rng(4)
    bits = rng.integers(0, FLOATS["float32"].infinity, 16) | rng.integers(0, 2, 16) << 31
    row_scales = bits.astype(np.uint32).view(np.float32)
    sums = _sums(rng, 50 * 16).reshape(50, 16)
    # Bring half of the outputs near the middle of the range, whatever their scale.
    exponents = rng.integers(-171, 122, 50, dtype=np.int32)
    _check(contract, sums, exponents, row_scales, output)


# Exponents of the last normal numbers, and of the numbers that float16 and bfloat16 round at.
EDGES = {
    "float32": [-127, -126, -125, 126, 127, 128],
    "float16": [-127, -126, -26, -25, -24, -23, -15, -14, -13, 14, 15, 16, 128],
    "bfloat16": [-127, -126, -125, 126, 127, 128],
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_ends_of_the_range(output, contract):
    fractions = [0, 1, 2, 0x1FFF, 0x2000, 0x2001, 0x3000, 0x7FFF, 0x8000, 0x8001, 0x17FFF, 0x18000]
    fractions += [0x1000, 0x0FFF, 0x1001, 0x7FEFFF, 0x7FF000, 0x7F7FFF, 0x7F8000, 0x7FFFFF]
    magnitudes = [(1 << 23) + fraction for fraction in fractions]
    sums = np.array([*magnitudes, *(-m for m in magnitudes)], dtype=np.int64)
    for exponent in EDGES[output]:
        for row_scale in (2.0**-30, 2.0**20):
            # The product's value is +-1.f * 2**exponent.
            step = exponent - 23 - int(np.log2(row_scale))
            row_scales = np.full(len(sums), row_scale, dtype=np.float32)
            _check(contract, sums[None], np.array([step], dtype=np.int32), row_scales, output)


def _one(total, exponent, row_scale, output="float32"):
    y = convert_output(
        np.array([[total]], dtype=np.int64),
        np.array([exponent], dtype=np.int32),
        np.array([row_scale], dtype=np.float32),
        output,
        np.zeros(1, dtype=np.bool_),
    )
    return int(_bits(y)[0, 0])


@pytest.mark.parametrize(
    ("total", "exponent", "row_scale", "bits"),
    [
        (1, 0, 1.0, 0x3F800000),
        (0, 0, -1.0, 0),
        (-5, 0, 0.0, 0),
        (5, 0, -0.0, 0),
        ((1 << 24) + 1, 0, 1.0, 0x4B800000),  # a tie, to even
        ((1 << 24) + 3, 0, 1.0, 0x4B800002),  # a tie, to even, upwards
        (1, -126, 1.0, 0x00800000),
        (-1, -127, 1.0, 0x80000000),  # no subnormals, the sign is kept
        (1, 127, 1.0, 0x7F000000),
        (-1, 128, 1.0, 0xFF800000),
        (-1, 22, 2.0**-149, 0x80000000),  # 2**-127
        (3, 23, 2.0**-149, 0x01400000),  # a subnormal scale, a normal output
        (1, -149, 2.0**127, 0x34800000),
    ],
)
def test_by_hand(total, exponent, row_scale, bits):
    assert _one(total, exponent, row_scale) == bits


def test_two_roundings_are_kept_apart():
    # 2**24 + 1 goes to 2**24 before the scale; 1.5 * (2**24 + 1) would round up to 25165826.
    assert _one((1 << 24) + 1, 0, 1.5) == np.float32(25165824).view(np.uint32)


def test_narrow_outputs_are_rounded_twice():
    # Just above the tie between two float16, and rounded onto it by float32: 1 + 2**-11 + 2**-30.
    total = (1 << 30) + (1 << 19) + 1
    assert _one(total, -30, 1.0, "float16") == 0x3C00
    assert _one((1 << 30) + (1 << 22) + 1, -30, 1.0, "bfloat16") == 0x3F80


def test_float16_has_subnormals():
    assert _one(3, -25, 1.0, "float16") == 2  # 1.5 steps, a tie
    assert _one(-1, -25, 1.0, "float16") == 0x8000  # half a step, a tie
    assert _one(1023, -24, 1.0, "float16") == 0x03FF
    assert _one(65519, 0, 1.0, "float16") == 0x7BFF
    assert _one(65520, 0, 1.0, "float16") == 0x7C00


@pytest.mark.parametrize(
    ("output", "nan"), [("float32", 0x7FC00000), ("float16", 0x7E00), ("bfloat16", 0x7FC0)]
)
def test_one_nan(output, nan):
    y = convert_output(
        np.array([[7, -7, 0], [7, -7, 0]]),
        np.array([0, 300], dtype=np.int32),
        np.array([-1, 1, 0], dtype=np.float32),
        output,
        np.array([False, True]),
    )
    assert _bits(y)[1].tolist() == [nan] * 3
    assert np.isfinite(y[0].astype(np.float32)).all()


def test_no_tokens():
    nothing = np.zeros(0, dtype=np.int32)
    y = convert_output(
        np.zeros((0, 2), dtype=np.int64),
        nothing,
        np.ones(2, dtype=np.float32),
        "bfloat16",
        nothing.astype(np.bool_),
    )
    assert y.shape == (0, 2)


def test_int_is_no_conversion():
    with pytest.raises(ValueError, match=r"^Output type must be one of .*, not 'int'$"):
        _one(1, 0, 1.0, "int")
