"""A quantised matrix: what it refuses, and its integer weights against plain loops."""

import dataclasses
import re

import numpy as np
import pytest

from lutra.formats import (
    AffineFormat,
    BinaryCodingFormat,
    FreeFormat,
    Outliers,
    QuantizedMatrix,
    ValueFormat,
    member,
)

MIXED = tuple(map(member, ("int8_asym", "bcq3_asym", "ternary", "bitmod4_m8", "int2_asym")))
WIDE = tuple(map(member, ("int5_affine", "free3", "float6_e3m2", "int4_asym", "bcq2_asym")))


def _matrix(members, rows, columns, group_size, *, seed=0, scale_width=8):
    rng = np.random.default_rng(seed)
    groups = -(-columns // group_size)
    format_ids = rng.integers(0, len(members), (rows, groups)).astype(np.uint8)
    count = max(item.scale_count for item in members)
    scales = np.zeros((rows, groups, count), dtype=np.int32)
    zeros = np.zeros((rows, groups), dtype=np.uint8)
    codes = np.zeros((rows, columns), dtype=np.uint8)
    limit = (1 << scale_width) - 1
    for row in range(rows):
        for group in range(groups):
            item = members[format_ids[row, group]]
            for index in range(item.scale_count):
                scales[row, group, index] = rng.integers(-limit, limit + 1)
            if item.has_zero_point:
                zeros[row, group] = rng.integers(0, 1 << item.code_width)
            for column in range(group * group_size, min((group + 1) * group_size, columns)):
                codes[row, column] = rng.integers(0, 1 << item.code_width)
    return QuantizedMatrix(
        members=members,
        group_size=group_size,
        codes=codes,
        format_ids=format_ids,
        scales=scales,
        zeros=zeros,
        row_scales=rng.standard_normal(rows).astype(np.float32),
        scale_width=scale_width,
    )


def _weight(matrix, row, column):
    """Section 2 of the contract, one weight at a time."""
    group = column // matrix.group_size
    item = matrix.members[matrix.format_ids[row, group]]
    code = int(matrix.codes[row, column])
    scales = [int(scale) for scale in matrix.scales[row, group]]
    if isinstance(item, ValueFormat):
        zero = item.values[matrix.zeros[row, group]] if item.zero_point else 0
        return scales[0] * (item.values[code] - zero)
    if isinstance(item, AffineFormat):
        return scales[0] * code + scales[1]
    if isinstance(item, FreeFormat):
        return scales[code]
    assert isinstance(item, BinaryCodingFormat)
    total = scales[item.code_width] if item.offset else 0
    for bit in range(item.code_width):
        total += scales[bit] if code >> bit & 1 else -scales[bit]
    return total


@pytest.mark.parametrize(
    ("rows", "columns", "group_size"),
    [(1, 1, 1), (3, 16, 16), (3, 17, 16), (2, 33, 16), (4, 9, 4), (5, 20, 64), (2, 7, 1)],
)
@pytest.mark.parametrize("members", [MIXED, MIXED[:1], MIXED[1:2], MIXED[2:3]])
def test_integer_weights(members, rows, columns, group_size):
    matrix = _matrix(members, rows, columns, group_size, seed=columns)
    weights = matrix.integer_weights()
    assert weights.dtype == np.int32
    expected = [[_weight(matrix, n, k) for k in range(columns)] for n in range(rows)]
    assert weights.tolist() == expected
    exact = np.array(expected, dtype=np.float64) * matrix.row_scales.astype(np.float64)[:, None]
    assert np.array_equal(matrix.dequantize(), exact)
    widths = [[member_.code_width for member_ in members][i] for i in matrix.format_ids.flat]
    lengths = [min(group_size, columns - g * group_size) for g in range(matrix.groups)] * rows
    assert matrix.code_bits == sum(w * n for w, n in zip(widths, lengths, strict=True))


@pytest.mark.parametrize("scale_width", [1, 8, 16, 17, 24, 31])
def test_weights_of_any_scale_width(scale_width):
    """int32 as long as the largest scale and value allow it, int64 beyond."""
    matrix = _matrix(WIDE, 7, 45, 8, seed=scale_width, scale_width=scale_width)
    largest = int(np.abs(matrix.scales).max())
    peak = largest * max(item.peak for item in WIDE)
    weights = matrix.integer_weights()
    assert weights.dtype == (np.int32 if peak < 1 << 31 else np.int64)
    expected = [[_weight(matrix, n, k) for k in range(45)] for n in range(7)]
    assert weights.tolist() == expected
    exact = np.array(expected, dtype=np.float64) * matrix.row_scales.astype(np.float64)[:, None]
    assert np.array_equal(matrix.dequantize(), exact)


def _sparse(rows, columns, *, seed, peak=1000):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-peak, peak + 1, (rows, columns))
    weights[rng.random((rows, columns)) < 0.8] = 0
    return weights


@pytest.mark.parametrize("peak", [1000, 1 << 33, 1 << 40])
def test_outliers_are_added(peak):
    matrix = _matrix(MIXED, 5, 37, 16, seed=1)
    dense = matrix.integer_weights().astype(np.int64)
    sparse = _sparse(5, 37, seed=2, peak=peak)
    both = dataclasses.replace(matrix, outliers=Outliers.of(sparse))
    weights = both.integer_weights()
    assert weights.dtype == (np.int32 if peak < 1 << 31 else np.int64)
    assert np.array_equal(weights, dense + sparse)
    assert np.array_equal(
        both.dequantize(),
        (dense + sparse).astype(np.float64) * matrix.row_scales.astype(np.float64)[:, None],
    )


def test_column_order():
    """Tokens are arranged as the codes are; weights come back in the order of the tokens."""
    matrix = _matrix(MIXED, 5, 37, 16, seed=1)
    sparse = Outliers.of(_sparse(5, 37, seed=2))
    plain = dataclasses.replace(matrix, outliers=sparse)
    order = np.random.default_rng(3).permutation(37).astype(np.int32)
    ordered = dataclasses.replace(plain, column_order=order)
    x = np.random.default_rng(4).standard_normal((3, 37)).astype(np.float16)
    arranged = ordered.arrange(x)
    assert arranged.dtype == x.dtype
    assert plain.arrange(x) is x
    for k in range(37):
        assert np.array_equal(arranged[:, k], x[:, order[k]])
        assert np.array_equal(ordered.dequantize()[:, order[k]], plain.dequantize()[:, k])
    assert np.array_equal(ordered.integer_weights(), plain.integer_weights())
    whole = np.random.default_rng(5).integers(-9, 10, (3, 37))
    weights = ordered.dequantize() / ordered.row_scales.astype(np.float64)[:, None]
    assert np.array_equal(
        ordered.arrange(whole) @ ordered.integer_weights().T.astype(np.int64),
        np.rint(whole @ weights.T),
    )


def test_sizes_and_expand():
    matrix = _matrix(MIXED, 3, 37, 16)
    assert (matrix.rows, matrix.columns, matrix.groups) == (3, 37, 3)
    per_group = np.arange(9).reshape(3, 3)
    expected = [[per_group[n, k // 16] for k in range(37)] for n in range(3)]
    assert matrix.expand(per_group).tolist() == expected
    whole = _matrix(MIXED, 3, 37, 100)
    assert whole.groups == 1
    assert whole.expand(np.array([[4], [5], [6]])).tolist() == [[n] * 37 for n in (4, 5, 6)]


def test_extreme_weights_fit():
    matrix = _matrix((member("int8_asym"),), 1, 2, 2, scale_width=16)
    matrix = dataclasses.replace(
        matrix,
        codes=np.array([[255, 0]], dtype=np.uint8),
        scales=np.array([[[65535]]], dtype=np.int32),
        zeros=np.array([[0]], dtype=np.uint8),
    )
    assert matrix.integer_weights().tolist() == [[255 * 65535, 0]]


def _u8(*shape, fill=0):
    return np.full(shape, fill, dtype=np.uint8)


REFUSED = [
    ({"codes": _u8(4)}, "Codes must be a matrix, not an array of shape (4,)"),
    ({"codes": _u8(0, 4)}, "Codes must be a matrix, not an array of shape (0, 4)"),
    ({"group_size": 0}, "Group size must be at least 1, not 0"),
    (
        {"codes": np.zeros((2, 20), dtype=np.int8)},
        "codes must be uint8 of shape (2, 20), not int8 of shape (2, 20)",
    ),
    (
        {"format_ids": _u8(2, 3)},
        "format_ids must be uint8 of shape (2, 2), not uint8 of shape (2, 3)",
    ),
    (
        {"scales": np.zeros((2, 2), dtype=np.int32)},
        "scales must be int32 of shape (2, 2, 1), not int32 of shape (2, 2)",
    ),
    (
        {"scales": np.zeros((2, 2, 1), dtype=np.int64)},
        "scales must be int32 of shape (2, 2, 1), not int64 of shape (2, 2, 1)",
    ),
    ({"zeros": _u8(2, 1)}, "zeros must be uint8 of shape (2, 2), not uint8 of shape (2, 1)"),
    (
        {"row_scales": np.ones(3, dtype=np.float32)},
        "row_scales must be float32 of shape (2,), not float32 of shape (3,)",
    ),
    (
        {"row_scales": np.ones(2)},
        "row_scales must be float32 of shape (2,), not float64 of shape (2,)",
    ),
    (
        {"bias": np.ones(2)},
        "bias must be float32 of shape (2,), not float64 of shape (2,)",
    ),
    ({"scale_width": 0}, "Scale width must be in 1..31, not 0"),
    ({"scale_width": 32}, "Scale width must be in 1..31, not 32"),
    (
        {"scales": np.full((2, 2, 1), -256, dtype=np.int32)},
        "Group scales must be within ±255 for scale width 8, not 256",
    ),
    (
        {"scales": np.full((2, 2, 1), 16, dtype=np.int32), "scale_width": 4},
        "Group scales must be within ±15 for scale width 4, not 16",
    ),
    ({"format_ids": _u8(2, 2, fill=2)}, "Format ids must be below 2, not 2"),
    (
        {"row_scales": np.array([1, np.nan], dtype=np.float32)},
        "Row scales must be finite; remove NaN and infinity",
    ),
    (
        {"row_scales": np.array([-np.inf, 1], dtype=np.float32)},
        "Row scales must be finite; remove NaN and infinity",
    ),
    (
        {"bias": np.array([np.inf, 1], dtype=np.float32)},
        "The bias must be finite; remove NaN and infinity",
    ),
    ({"zeros": _u8(2, 2, fill=16)}, "Zero-points must be codes of their group's format"),
    (
        {"zeros": _u8(2, 2, fill=1), "format_ids": _u8(2, 2, fill=1)},
        "Zero-points must be 0 where the group's format has none",
    ),
    ({"codes": _u8(2, 20, fill=16)}, "Codes must fit the code width of their group's format"),
    (
        {"column_order": np.arange(19, dtype=np.int32)},
        "column_order must be int32 of shape (20,), not int32 of shape (19,)",
    ),
    (
        {"column_order": np.arange(20)},
        "column_order must be int32 of shape (20,), not int64 of shape (20,)",
    ),
    (
        {"column_order": np.arange(1, 21, dtype=np.int32)},
        "column_order must name each of the 20 columns once",
    ),
    (
        {"column_order": np.zeros(20, dtype=np.int32)},
        "column_order must name each of the 20 columns once",
    ),
    (
        {"outliers": Outliers.of(np.ones((3, 20), dtype=np.int64))},
        "Outliers must have 3 row pointers, not 4",
    ),
    (
        {"outliers": Outliers.of(np.ones((2, 21), dtype=np.int64))},
        "Columns of outliers must be below 20, not 20",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_refused(changes, sentence):
    matrix = dataclasses.replace(
        _matrix((member("int4_asym"), member("int8")), 2, 20, 16),
        codes=_u8(2, 20),
        format_ids=_u8(2, 2),
        zeros=_u8(2, 2),
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        dataclasses.replace(matrix, **changes)


def test_weights_beyond_62_bits_are_refused():
    item = ValueFormat("odd", 1, (0, 1 << 32))
    matrix = _matrix((item,), 2, 5, 5, scale_width=30)
    limit = (1 << 30) - 1
    fits = dataclasses.replace(matrix, scales=np.full((2, 1, 1), limit, dtype=np.int32))
    assert fits.integer_weights().max() in (0, limit << 32)
    limit = (1 << 31) - 1
    sentence = (
        f"Integer weights must fit 62 bits, but scales up to {limit} times values up to "
        f"{1 << 32} do not"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        dataclasses.replace(
            matrix, scales=np.full((2, 1, 1), limit, dtype=np.int32), scale_width=31
        )


def test_wide_codes_are_right_in_groups_of_wide_codes():
    matrix = _matrix((member("int4_asym"), member("int8")), 2, 20, 16)
    codes = _u8(2, 20)
    codes[1, 16:] = 200
    ids = _u8(2, 2)
    ids[1, 1] = 1
    good = dataclasses.replace(matrix, codes=codes, format_ids=ids, zeros=_u8(2, 2))
    assert good.codes[1, 19] == 200
    with pytest.raises(
        ValueError, match=r"^Codes must fit the code width of their group's format$"
    ):
        dataclasses.replace(good, format_ids=_u8(2, 2))


def test_matrices_compare_by_identity():
    """Arrays have no single truth, so equality of their fields would raise."""
    matrix = _matrix(MIXED, 2, 5, 4)
    assert matrix != dataclasses.replace(matrix)
