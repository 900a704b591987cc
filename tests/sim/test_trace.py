import itertools
from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import CATALOG, CodebookFormat, Numerics, Outliers, member
from lutra.sim import (
    DTYPES,
    GoldenModel,
    adversarial_tokens,
    align,
    nonfinite_tokens,
    random_matrix,
    trace_output,
)

CHOICES = [
    Numerics(),
    Numerics(act_width="exact"),
    Numerics(activation="int8", act_width=8),
    Numerics(activation="bfloat16", act_width=24),
    Numerics(activation="float32", act_width=9),
]


@pytest.mark.parametrize("numerics", CHOICES, ids=lambda n: f"{n.activation}-{n.act_width}")
@pytest.mark.parametrize("name", CATALOG)
def test_it_recombines_to_the_golden_sum(name, numerics):
    peak = max(item.peak for item in CATALOG[name].members)
    if (21 * peak * numerics.peak).bit_length() > 61:  # exact sums have 63 bits
        numerics = Numerics(act_width=18)
    scale_width = min(6, 62 - (21 * peak * numerics.peak).bit_length())
    matrix = random_matrix(name, 3, 21, 8, seed=len(name), scale_width=scale_width)
    tokens = np.stack(list(adversarial_tokens(numerics, 21, seed=3).values()))
    sums, exponents, _ = GoldenModel(matrix, numerics).sums(tokens)
    aligned = align(tokens, numerics)
    for m, n in itertools.product(range(len(tokens)), range(3)):
        trace = trace_output(matrix, numerics, tokens[m], n)
        assert trace.total == sums[m, n]
        assert trace.total == sum(group.total for group in trace.groups)
        assert trace.exponent == exponents[m]
        assert trace.activations == tuple(aligned.X[m].tolist())
        assert sum(group.activations for group in trace.groups) == aligned.X[m].sum()
        assert len(trace.groups) == 3
        assert not trace.nonfinite


def test_activations_in_the_order_of_the_columns():
    order = np.random.default_rng(2).permutation(21).astype(np.int32)
    plain = random_matrix("int4_affine", 3, 21, 8, seed=1)
    matrix = replace(plain, column_order=order)
    tokens = np.stack(list(adversarial_tokens(Numerics(), 21, seed=3).values()))
    sums, _, _ = GoldenModel(matrix, Numerics()).sums(tokens)
    for m, n in itertools.product(range(len(tokens)), range(3)):
        trace = trace_output(matrix, Numerics(), tokens[m], n)
        assert trace.total == sums[m, n]
        assert trace == trace_output(plain, Numerics(), tokens[m, order], n)


def test_outliers_have_no_planes():
    matrix = random_matrix("int4", 3, 21, 8, seed=1)
    matrix = replace(matrix, outliers=Outliers.of(np.eye(3, 21, dtype=np.int64)))
    sentence = "A layer with outliers has no trace: engines have no path for them"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        trace_output(matrix, Numerics(), np.zeros(21, np.float16), 0)


def test_each_part_by_hand():
    # int3_asym: planes 1, 2 and 4 of codes 5, 3, 6; a zero-point of 2 and a scale of -7.
    matrix = replace(
        random_matrix("int3_asym", 1, 3, 3, seed=1),
        codes=np.array([[5, 3, 6]], np.uint8),
        zeros=np.array([[2]], np.uint8),
        scales=np.array([[[-7]]], np.int32),
    )
    numerics = Numerics(activation="int8", act_width=8)
    trace = trace_output(matrix, numerics, np.array([10, -100, 1], np.int8), 0)
    (group,) = trace.groups
    assert group.planes == (10 - 100, -100 + 1, 10 + 1)
    assert group.activations == -89
    assert group.total == trace.total == -7 * ((5 * 10 - 3 * 100 + 6) - 2 * -89)


def test_codebooks_and_mixtures():
    book = CodebookFormat.of([-90, -7, -1, 0, 1, 3, 50, 127])
    formats = (book, member("int5"), member("bcq3_asym"))
    matrix = random_matrix(formats, 4, 50, 16, seed=5)
    x = np.random.default_rng(2).standard_normal((1, 50)).astype(np.float16)
    sums, _, _ = GoldenModel(matrix, Numerics()).sums(x)
    for n in range(4):
        assert trace_output(matrix, Numerics(), x[0], n).total == sums[0, n]


def test_a_token_that_is_not_finite():
    matrix = random_matrix("int4", 1, 8, 8, seed=1)
    for token in nonfinite_tokens(Numerics(), 8).values():
        trace = trace_output(matrix, Numerics(), token, 0)
        assert trace.nonfinite
        assert trace.total == 0
        assert set(trace.activations) == {0}


@pytest.mark.parametrize("row", [-1, 3])
def test_rows_that_are_none(row):
    matrix = random_matrix("int4", 3, 8, 8, seed=1)
    with pytest.raises(ValueError, match=rf"^Row must be in 0\.\.2, not {row}$"):
        trace_output(matrix, Numerics(), np.zeros(8, np.float16), row)


@pytest.mark.parametrize(("shape", "dtype"), [((7,), "float16"), ((1, 8), "float16")])
def test_tokens_of_another_shape(shape, dtype):
    matrix = random_matrix("int4", 3, 8, 8, seed=1)
    with pytest.raises(ValueError, match=r"^A token must have 8 elements, not shape "):
        trace_output(matrix, Numerics(), np.zeros(shape, DTYPES[dtype]), 0)


def test_tokens_of_another_type():
    matrix = random_matrix("int4", 3, 8, 8, seed=1)
    with pytest.raises(ValueError, match=r"^Activations must be a matrix of float16, not int8"):
        trace_output(matrix, Numerics(), np.zeros(8, np.int8), 0)
