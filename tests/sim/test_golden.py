import itertools
from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import CATALOG, FLOATS, Numerics, Outliers
from lutra.sim import (
    DTYPES,
    GoldenModel,
    adversarial_matrices,
    adversarial_tokens,
    nonfinite_tokens,
    random_matrix,
)

NUMERICS = [
    *((name, width) for name in ("float16", "bfloat16", "float32") for width in range(8, 25)),
    ("float16", "exact"),
    ("int8", 8),
]
OUTPUTS = list(FLOATS)
# (columns, group size): groups that divide the row, tails, one group, groups of one, a whole row.
SHAPES = [(48, 16), (37, 16), (33, 32), (65, 64), (130, 128), (29, 29), (5, 64), (7, 1), (1, 1)]


def _batch(numerics, columns, seed=0, names=None):
    tokens = adversarial_tokens(numerics, columns, seed=seed)
    tokens |= nonfinite_tokens(numerics, columns, seed=seed)
    return np.stack([token for name, token in tokens.items() if names is None or name in names])


def _check(contract, matrix, numerics, x):
    y = GoldenModel(matrix, numerics).run(x, nonfinite="nan")
    assert y.dtype == DTYPES[numerics.output]
    assert np.array_equal(y.view(f"u{y.itemsize}"), contract.run(matrix, numerics, x))


def _room(name, numerics, columns):
    """Count the bits that are left for scales in exact sums of 63 bits."""
    peak = max(item.peak for item in CATALOG[name].members)
    return 62 - (peak * columns * numerics.peak).bit_length()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("activation", "act_width"), NUMERICS)
def test_all_numerics(activation, act_width, output, contract):
    numerics = Numerics(activation=activation, act_width=act_width, output=output)
    seed = NUMERICS.index((activation, act_width))
    names = [name for name in CATALOG if _room(name, numerics, 21) >= 8]
    matrix = random_matrix(names[5 * seed % len(names)], 3, 21, 16, seed=seed)
    _check(contract, matrix, numerics, _batch(numerics, 21, seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CATALOG)
def test_all_formats(name, shape, contract):
    columns, group_size = shape
    seed = list(CATALOG).index(name) + SHAPES.index(shape)
    activation, act_width = NUMERICS[seed * 7 % len(NUMERICS)]
    numerics = Numerics(
        activation=activation, act_width=act_width, output=OUTPUTS[seed % len(OUTPUTS)]
    )
    if _room(name, numerics, columns) < 1:
        numerics = replace(numerics, activation="bfloat16", act_width=14)
    scale_width = min(1 + seed % 31, _room(name, numerics, columns))
    matrix = random_matrix(name, 5, columns, group_size, seed=seed, scale_width=scale_width)
    tokens = {"random", "cancelling", "exponent_spread", "all_largest", "infinity"}
    _check(contract, matrix, numerics, _batch(numerics, columns, seed, tokens))


@pytest.mark.parametrize("name", CATALOG)
def test_adversarial_matrices(name, contract):
    widest = Numerics(activation="float32", act_width=24)
    scale_width = min(8, _room(name, widest, 19))
    matrices = adversarial_matrices(name, 4, 19, 8, seed=6, scale_width=scale_width)
    for (activation, act_width), matrix in zip(
        itertools.cycle([("float16", 16), ("int8", 8), ("bfloat16", 9), ("float32", 24)]),
        matrices.values(),
        strict=False,
    ):
        numerics = Numerics(activation=activation, act_width=act_width)
        tokens = {"random", "cancelling", "all_largest", "all_lowest", "all_zero", "alternating"}
        _check(contract, matrix, numerics, _batch(numerics, 19, 6, tokens))


@pytest.mark.parametrize("name", ["bitmod4", "int4_affine", "free3", "float8_e4m3"])
def test_column_order_and_outliers(name, contract):
    """Tokens are arranged before anything else; outliers are weights like all others."""
    numerics = Numerics(activation="float16", act_width=16)
    rng = np.random.default_rng(8)
    sparse = rng.integers(-(1 << 30), 1 << 30, (5, 37))
    sparse[rng.random((5, 37)) < 0.8] = 0
    plain = random_matrix(name, 5, 37, 16, seed=9)
    order = rng.permutation(37).astype(np.int32)
    x = _batch(numerics, 37, 3)
    for matrix in (
        replace(plain, column_order=order),
        replace(plain, outliers=Outliers.of(sparse)),
        replace(plain, column_order=order, outliers=Outliers.of(sparse)),
    ):
        _check(contract, matrix, numerics, x)
    arranged = GoldenModel(plain, numerics).run(x[:, order], nonfinite="nan")
    ordered = GoldenModel(replace(plain, column_order=order), numerics).run(x, nonfinite="nan")
    assert np.array_equal(ordered.view("u4"), arranged.view("u4"))


def test_sums_beyond_63_bits_are_refused():
    matrix = adversarial_matrices("float8_e5m2", 2, 9, 9, seed=1)["all_largest"]
    numerics = Numerics(act_width=24)
    peak = 7 << 30  # the largest number, in steps of the smallest
    needed = (9 * peak * 255 * numerics.peak).bit_length() + 1
    assert needed > 63 > 62 - _room("float8_e5m2", numerics, 9)
    sentence = f"The exact sum must fit 63 bits, but may need {needed}: reduce act_width"
    with pytest.raises(ValueError, match=f"^{sentence}"):
        GoldenModel(matrix, numerics)
    GoldenModel(matrix, Numerics(act_width=16))


def test_mixture_of_families(contract):
    formats = [item for name in ("int3", "int8_asym", "bitmod4") for item in CATALOG[name].members]
    numerics = Numerics(activation="bfloat16", act_width=12)
    matrix = random_matrix(formats, 6, 100, 16, seed=7)
    assert len(np.unique(matrix.format_ids)) == 6
    _check(contract, matrix, numerics, _batch(numerics, 100))


@pytest.mark.parametrize(
    ("activation", "act_width", "name", "scale_width", "columns"),
    [
        ("float32", 24, "int8", 16, 200),
        ("float16", "exact", "int8", 8, 9),
        ("float16", "exact", "int2", 16, 9),
    ],
)
def test_sums_beyond_float64(activation, act_width, name, scale_width, columns, contract):
    numerics = Numerics(activation=activation, act_width=act_width)
    matrices = adversarial_matrices(name, 2, columns, 4, seed=8, scale_width=scale_width)
    x = _batch(numerics, columns)
    assert (
        np.abs(GoldenModel(matrices["all_largest"], numerics).sums(x, nonfinite="nan")[0]).max()
        > 2**53
    )
    for case in ("all_largest", "alternating", "negative_scales"):
        _check(contract, matrices[case], numerics, x)


@pytest.mark.parametrize(("activation", "act_width"), NUMERICS)
def test_int_output(activation, act_width, contract):
    numerics = Numerics(activation=activation, act_width=act_width, output="int")
    matrix = random_matrix("bitmod3", 4, 18, 8, seed=9)
    x = np.stack(list(adversarial_tokens(numerics, 18).values()))
    model = GoldenModel(matrix, numerics)
    sums, exponent = model.run(x)
    assert sums.dtype == np.int64
    assert exponent.dtype == np.int32
    weights = contract.weights(matrix)
    for index, token in enumerate(x):
        integers, token_exponent = contract.align(token, numerics)
        assert exponent[index] == token_exponent
        assert sums[index].tolist() == [
            sum(a * b for a, b in zip(integers, row, strict=True)) for row in weights
        ]
    again = model.sums(x)
    assert np.array_equal(again[0], sums)
    assert np.array_equal(again[1], exponent)
    assert not again[2].any()


@pytest.mark.parametrize("nonfinite", ["raise", "nan"])
def test_int_output_has_no_nan(nonfinite):
    numerics = Numerics(output="int")
    model = GoldenModel(random_matrix("int4", 2, 3, 4, seed=1), numerics)
    x = np.array([[1, 2, 3], [1, np.inf, 3]], dtype=np.float16)
    sentence = "^Activations must be finite; element 1 of token 1 is inf$"
    with pytest.raises(ValueError, match=sentence):
        model.run(x, nonfinite=nonfinite)


def test_software_refuses():
    model = GoldenModel(random_matrix("int4", 2, 3, 4, seed=1), Numerics())
    x = np.array([[1, 2, np.nan]], dtype=np.float16)
    sentence = "^Activations must be finite; element 2 of token 0 is nan$"
    with pytest.raises(ValueError, match=sentence):
        model.run(x)
    with pytest.raises(ValueError, match=sentence):
        model.sums(x)


def test_other_tokens_do_not_see_a_nan():
    numerics = Numerics()
    model = GoldenModel(random_matrix("int4", 5, 40, 16, seed=1), numerics)
    finite = np.stack(list(adversarial_tokens(numerics, 40).values()))
    rest = np.stack(list(nonfinite_tokens(numerics, 40).values()))
    y = model.run(np.concatenate([finite, rest]), nonfinite="nan")
    assert np.array_equal(y[: len(finite)].view(np.uint32), model.run(finite).view(np.uint32))
    assert (y[len(finite) :].view(np.uint32) == FLOATS["float32"].quiet_nan).all()


def test_a_token_does_not_depend_on_its_batch():
    # Also: the sums of one token and of many take different paths through BLAS.
    numerics = Numerics(activation="float32", act_width=24)
    model = GoldenModel(random_matrix("int8", 33, 257, 64, seed=2), numerics)
    x = np.stack(list(adversarial_tokens(numerics, 257).values()))
    y = model.run(x).view(np.uint32)
    for index in range(len(x)):
        assert np.array_equal(model.run(x[index : index + 1]).view(np.uint32)[0], y[index])


def test_padding_changes_nothing():
    numerics = Numerics()
    matrix = random_matrix("int4_asym", 5, 40, 16, seed=3)
    padded = random_matrix("int4_asym", 5, 48, 16, seed=3)
    padded.codes[:, :40] = matrix.codes
    for name in ("scales", "zeros", "row_scales"):
        getattr(padded, name)[...] = getattr(matrix, name)
    x = np.stack(list(adversarial_tokens(numerics, 40).values()))
    y = GoldenModel(matrix, numerics).run(x)
    wide = GoldenModel(padded, numerics).run(np.pad(x, ((0, 0), (0, 8))))
    assert np.array_equal(wide.view(np.uint32), y.view(np.uint32))


def test_all_extreme_layer_of_full_size():
    # 4096 columns of the largest 24-bit activations and 16-bit scales: three digits, 62 bits.
    numerics = Numerics(activation="float32", act_width=24, output="int")
    matrix = adversarial_matrices("int8", 2, 4096, 128, seed=4, scale_width=16)["all_largest"]
    x = np.full((2, 4096), np.nextafter(np.float32(2), np.float32(0)))
    x[1] *= -1
    total = 4096 * (2**23 - 1) * 128 * 65535
    assert GoldenModel(matrix, numerics).run(x)[0].tolist() == [[total] * 2, [-total] * 2]


def test_too_wide_a_sum_is_refused_when_built():
    matrix = adversarial_matrices("int8", 1, 4096, 128, seed=4, scale_width=16)["all_largest"]
    with pytest.raises(ValueError, match=r"^The exact sum must fit 63 bits, but may need 76: "):
        GoldenModel(matrix, Numerics(act_width="exact"))


def test_wrong_columns():
    model = GoldenModel(random_matrix("int4", 2, 3, 4, seed=1), Numerics())
    with pytest.raises(ValueError, match=r"^Activations must have 3 elements a token, not 4$"):
        model.run(np.zeros((1, 4), dtype=np.float16))


def test_no_tokens():
    model = GoldenModel(random_matrix("int4", 2, 3, 4, seed=1), Numerics())
    assert model.run(np.zeros((0, 3), dtype=np.float16)).shape == (0, 2)
