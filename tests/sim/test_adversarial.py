import numpy as np
import pytest

from lutra.formats import CATALOG, FLOATS, AffineFormat, FreeFormat, Numerics
from lutra.sim import (
    DTYPES,
    adversarial_matrices,
    adversarial_tokens,
    align,
    nonfinite_tokens,
    random_matrix,
)

NUMERICS = [
    Numerics(activation="int8", act_width=8),
    Numerics(activation="float16", act_width=8),
    Numerics(activation="float16", act_width=24),
    Numerics(activation="float16", act_width="exact"),
    Numerics(activation="bfloat16", act_width=16),
    Numerics(activation="float32", act_width=16),
]


def _name(numerics):
    return f"{numerics.activation}-{numerics.act_width}"


@pytest.mark.parametrize("columns", [1, 2, 3, 64, 100])
@pytest.mark.parametrize("numerics", NUMERICS, ids=_name)
def test_tokens_are_what_they_say(numerics, columns):
    tokens = adversarial_tokens(numerics, columns, seed=1)
    for token in tokens.values():
        assert token.dtype == DTYPES[numerics.activation]
        assert token.shape == (columns,)
        assert np.isfinite(token.astype(np.float64)).all()
    for token in nonfinite_tokens(numerics, columns, seed=1).values():
        assert token.dtype == DTYPES[numerics.activation]
        assert token.shape == (columns,)
        field = FLOATS[numerics.activation]
        magnitude = token.view(f"u{token.itemsize}") & ((1 << field.width - 1) - 1)
        assert (magnitude >= field.infinity).any()
    assert not tokens["all_zero"].astype(np.float64).any()
    assert np.count_nonzero(tokens["first_only"]) == np.count_nonzero(tokens["last_only"]) == 1
    assert np.unique(np.abs(tokens["cancelling"].astype(np.float64))).size == 1
    if columns % 2 == 0:
        assert tokens["cancelling"].astype(np.float64).sum() == 0


@pytest.mark.parametrize("name", FLOATS)
def test_floats_reach_their_corners(name):
    numerics = Numerics(activation=name, act_width=12)
    tokens = {
        key: token.astype(np.float64)
        for key, token in adversarial_tokens(numerics, 100, seed=2).items()
    }
    field = FLOATS[name]
    smallest_normal = 2.0 ** (1 - field.bias)
    assert tokens["smallest_subnormal_only"].max() == smallest_normal * 2.0**-field.fraction_width
    assert (np.abs(tokens["subnormals"]) < smallest_normal).all()
    assert tokens["subnormals"].all()
    mixed = np.abs(tokens["mixed_subnormals"])
    assert mixed.min() < smallest_normal < mixed.max()
    assert np.signbit(tokens["all_negative_zero"]).all()
    assert not tokens["all_negative_zero"].any()
    exponents = np.frexp(tokens["exponent_spread"])[1]
    assert exponents.max() - exponents.min() == 30
    assert exponents[0] == exponents.max()
    two = adversarial_tokens(numerics, 2)["exponent_spread"].astype(np.float64)
    assert np.diff(np.frexp(two)[1]).tolist() == [-30]


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("act_width", range(8, 25))
def test_half_steps_are_ties(name, act_width):
    numerics = Numerics(activation=name, act_width=act_width)
    token = adversarial_tokens(numerics, 40)["half_steps"]
    exponent = int(align(token[None], numerics).exponent[0])
    steps = token[1:].astype(np.float64) * 2.0**-exponent
    assert (steps % 1 == 0.5).all()
    assert set(np.abs(steps)) == {0.5 + integer for integer in range(8)}


def test_narrow_widths_reach_the_limit():
    for name, act_width in (("float16", 8), ("float16", 11), ("bfloat16", 8), ("float32", 24)):
        numerics = Numerics(activation=name, act_width=act_width)
        token = adversarial_tokens(numerics, 5)["all_largest"]
        assert set(align(token[None], numerics).X[0]) == {numerics.peak}


def test_int8_has_both_ends_and_no_nan():
    numerics = NUMERICS[0]
    tokens = adversarial_tokens(numerics, 10)
    assert set(tokens["alternating"]) == {127, -128}
    assert nonfinite_tokens(numerics, 10) == {}


def test_nonfinite_patterns():
    bits = {
        name: token.view(np.uint16)
        for name, token in nonfinite_tokens(Numerics(), 9, seed=3).items()
    }
    assert bits["quiet_nan"][0] == 0x7E00
    assert bits["negative_nan_last"][-1] == 0xFE00
    assert bits["signalling_nan"][4] == 0x7C01
    assert bits["infinity"][0] == 0x7C00
    assert bits["negative_infinity_last"][-1] == 0xFC00
    assert set(bits["opposite_infinities"]) == {0x7C00, 0xFC00}


def test_seeds():
    numerics = Numerics()
    one, same = (adversarial_tokens(numerics, 30, seed=1) for _ in range(2))
    other = adversarial_tokens(numerics, 30, seed=2)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["random"], other["random"])
    one, same = (random_matrix("bitmod4", 4, 50, 16, seed=1) for _ in range(2))
    assert np.array_equal(one.codes, same.codes)
    assert np.array_equal(one.row_scales, same.row_scales)
    assert not np.array_equal(one.codes, random_matrix("bitmod4", 4, 50, 16, seed=2).codes)


@pytest.mark.parametrize("scale_width", [1, 8, 16])
@pytest.mark.parametrize("name", CATALOG)
def test_extreme_matrices(name, scale_width):
    matrices = adversarial_matrices(name, 3, 21, 8, seed=4, scale_width=scale_width)
    peak = max(item.peak for item in CATALOG[name].members) * ((1 << scale_width) - 1)
    assert (matrices["all_largest"].integer_weights() == peak).all()
    assert (matrices["all_lowest"].integer_weights() == -peak).all()
    alternating = matrices["alternating"].integer_weights()
    assert (alternating[:, ::2] == peak).all()
    # Equal scales leave these no weight of the other sign.
    if not isinstance(CATALOG[name].members[0], AffineFormat | FreeFormat):
        assert (alternating[:, 1::2] <= 0).all()
    assert (matrices["negative_scales"].scales <= 0).all()
    assert not matrices["all_scales_zero"].integer_weights().any()
    assert not matrices["some_scales_zero"].integer_weights()[:, :8].any()
    assert matrices["some_scales_zero"].integer_weights()[:, 8:16].any()


def test_extreme_row_scales():
    matrices = adversarial_matrices("int4", 6, 8, 8, seed=5)
    bits = {
        name: set(matrix.row_scales.view(np.uint32).tolist()) for name, matrix in matrices.items()
    }
    assert bits["row_scales_zero"] == {0, 0x80000000, 0x3F800000}
    assert bits["row_scales_subnormal"] == {1, 0x807FFFFF, 3 << 9}
    assert bits["row_scales_smallest"] == {0x00800000, 0x80800000, 0x01000001}
    assert bits["row_scales_largest"] == {0x7F7FFFFF, 0xFF000000}


@pytest.mark.parametrize("name", CATALOG)
def test_random_matrices_use_what_a_family_has(name):
    matrix = random_matrix(name, 40, 300, 16, seed=6)
    members = CATALOG[name].members
    assert set(np.unique(matrix.format_ids)) == set(range(len(members)))
    assert len(np.unique(matrix.codes)) == 1 << CATALOG[name].code_width
    assert matrix.scales.min() < 0 < matrix.scales.max()
    assert matrix.zeros.any() == members[0].has_zero_point
    assert np.signbit(matrix.row_scales).any()


def test_formats_of_different_widths():
    formats = [CATALOG[name].members[0] for name in ("int2", "bcq3_asym", "int8")]
    matrix = random_matrix(formats, 20, 100, 16, seed=7)
    assert len(np.unique(matrix.format_ids)) == 3
    assert not matrix.scales[matrix.format_ids != 1][:, 1:].any()
    assert matrix.codes.max() > 127


def test_a_family_will_do():
    one = random_matrix(CATALOG["int4"], 2, 9, 4, seed=1)
    assert np.array_equal(one.codes, random_matrix("int4", 2, 9, 4, seed=1).codes)
