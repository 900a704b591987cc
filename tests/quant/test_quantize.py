import time

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import CATALOG, ValueFormat, family, member
from lutra.quant import METHODS, method_for, quantize
from lutra.quant.value_grid import ValueGrid

PAIRS = [
    (name, method.name)
    for name, entry in CATALOG.items()
    for method in METHODS.values()
    if method.serves(entry) and method.search is not None
]
PLAIN = [name for name, entry in CATALOG.items() if len(entry.members) == 1]
QUANTIZED = list(dict.fromkeys(name for name, _ in PAIRS))


def _has_zero(name):
    """Whether 0 is among the values of each member."""
    return all(not isinstance(m, ValueFormat) or 0 in m.values for m in family(name).members)


def random_weights(seed, rows, columns):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def special_rows(columns):
    """Zeros, constants of both signs, one sign only, a zero group, one non-zero, huge, tiny."""
    rows = random_weights(5, 9, columns)
    rows[0] = 0
    rows[1] = 1.5
    rows[2] = -0.3
    rows[3] = -np.abs(rows[3])
    rows[4] = np.abs(rows[4])
    rows[5, : columns // 2] = 0
    rows[6] = 0
    rows[6, -1] = -2
    rows[7] *= np.float32(1e38)
    rows[8] *= np.float32(1e-30)
    return rows


def same(a, b):
    arrays = ("codes", "format_ids", "scales", "zeros", "row_scales")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


@pytest.mark.parametrize("name", [name for name in CATALOG if name not in QUANTIZED])
def test_families_without_a_method(name):
    with pytest.raises(ValueError, match=f"^There is no method that quantises to format '{name}'$"):
        quantize(random_weights(1, 2, 8), format=name)


@pytest.mark.parametrize("group_size", [16, 32, 64, 128, "row", 7])
@pytest.mark.parametrize("name", QUANTIZED)
def test_every_family_takes_every_shape(name, group_size):
    for rows, columns in ((1, 1), (3, 16), (2, 17), (5, 129), (4, 200)):
        weights = random_weights(rows * columns, rows, columns)
        made = quantize(weights, format=name, group_size=group_size)
        assert made.codes.shape == (rows, columns)
        assert made.members == family(name).members
        assert made.group_size == (columns if group_size == "row" else min(group_size, columns))
        error = np.linalg.norm(made.dequantize() - weights) / np.linalg.norm(weights)
        assert error < 1


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_special_rows(name, method):
    weights = special_rows(72)
    for group_size in (16, 72):
        made = quantize(weights, format=name, group_size=group_size, method=method)
        back = made.dequantize()
        assert made.row_scales[0] == 0
        assert not made.scales[0].any()
        assert not back[0].any()
        bitmod = name.startswith("bitmod")  # whose scales are clamped to 1e-5..1e4
        for row in range(1, 7 if bitmod else 9):
            wanted = weights[row].astype(np.float64)
            error = np.linalg.norm(back[row] - wanted) / np.linalg.norm(wanted)
            # A single weight among zeros has no sign planes without an offset.
            assert error < 1 + 1e-6, f"row {row}"
        if isinstance(made.members[0], ValueFormat) and _has_zero(name):
            zeros = weights == 0
            assert not back[zeros].any()  # zero is a value of every value format


# Not BitMoD and not IQ4_NL: they leave the largest magnitude to one sign.
@pytest.mark.parametrize(
    ("name", "method"), [p for p in PAIRS if p[0] in PLAIN and p[0] != "iq4_nl"]
)
def test_constant_rows_come_back(name, method):
    weights = np.array([[1.5] * 40, [-0.3] * 40], dtype=np.float32)
    back = quantize(weights, format=name, group_size=16, method=method).dequantize()
    # S is the only rounded number: one part in 2^24.
    assert (np.abs(back / weights - 1) < 2.0**-22).all()


def worst_distance(item):
    """Largest distance of a scaled weight to its value, in steps of the grid."""
    if item.has_zero_point:
        return 1.0  # half from the weight, half from rounding the zero-point at the clipped end
    grid = ValueGrid([item])
    values = np.unique(grid.values)
    inside = np.diff(values).max() / 2
    return max(inside, grid.reach[0] - values[-1], grid.reach[0] + values[0])


@pytest.mark.parametrize("group_size", [16, 32, 64, 128, "row"])
@pytest.mark.parametrize("name", [n for n, m in PAIRS if m == "absmax"])
def test_absmax_error_is_bounded(name, group_size):
    weights = random_weights(11, 24, 203)
    made = quantize(weights, format=name, group_size=group_size, method="absmax")
    errors = np.abs(made.dequantize() - weights)
    steps = made.row_scales.astype(np.float64)[:, None]
    # The true scale is within half a step of the stored one, and exactly it for a single group.
    slack = 0.0 if made.groups == 1 else 0.5
    for index, item in enumerate(made.members):
        reach = ValueGrid([item]).reach[0]
        bound = (
            worst_distance(item) * (made.scales[:, :, 0] + slack) * steps + reach * slack * steps
        )
        inside = made.expand(made.format_ids) == index
        assert (errors <= made.expand(bound) * (1 + 1e-5))[inside].all()


def row_errors(made, weights):
    differences = made.dequantize() - weights
    return np.cumsum(differences * differences, axis=1)[:, -1]


@pytest.mark.parametrize("name", [n for n, m in PAIRS if m == "mse"])
def test_mse_is_never_worse_than_absmax(name):
    weights = random_weights(3, 40, 96)
    absmax = quantize(weights, format=name, group_size="row", method="absmax")
    searched = quantize(weights, format=name, group_size="row", method="mse")
    before, after = row_errors(absmax, weights), row_errors(searched, weights)
    assert (after <= before).all()
    if int(family(name).code_width) <= 4:
        assert after.sum() < 0.99 * before.sum()


@pytest.mark.parametrize(("name", "reach"), [("ternary", 1), ("int3", 3)])
def test_mse_equals_a_plain_search(name, reach):
    weights = np.random.default_rng(8).standard_t(4, (12, 64)).astype(np.float32)
    made = quantize(weights, format=name, group_size="row", method="mse")
    steps = []
    for row, group in enumerate(weights):
        best = (np.inf, np.float32(0), [], 0)
        for step in range(50, 9, -1):
            delta = np.abs(group).max() / np.float32(reach) * np.float32(step / 50)
            values = [min(max(np.ceil(float(x) - 0.5), -reach), reach) for x in group / delta]
            error = 0.0
            for value, weight in zip(values, group, strict=True):
                error += (value * float(delta) - float(weight)) ** 2
            if error / 64 < best[0]:
                best = (error / 64, delta, values, step)
        assert made.row_scales[row] == best[1], f"row {row}"
        assert made.integer_weights()[row].tolist() == best[2], f"row {row}"
        steps.append(best[3])
    if name == "ternary":
        assert min(steps) < 20


@pytest.mark.parametrize("power", [-90, 90])
@pytest.mark.parametrize(("name", "method"), [p for p in PAIRS if p[0] in PLAIN])
def test_a_power_of_two_only_moves_the_row_scales(name, method, power):
    weights = random_weights(13, 8, 72)
    # Scales are to stay over their bound of 2^-110 where the largest value is up to 2^33 of them.
    power = max(power, member(name).peak.bit_length() - 107)
    made = quantize(weights, format=name, group_size=32, method=method)
    moved = quantize(weights * np.float32(2.0**power), format=name, group_size=32, method=method)
    for array in ("codes", "format_ids", "scales", "zeros"):
        assert np.array_equal(getattr(moved, array), getattr(made, array)), array
    assert np.array_equal(moved.row_scales, made.row_scales * np.float32(2.0**power))


@pytest.mark.parametrize("bits", range(2, 9))
def test_asymmetric_integers_equal_a_plain_loop(bits):
    top = (1 << bits) - 1
    weights = random_weights(bits, 12, 24) + np.linspace(-3, 3, 12, dtype=np.float32)[:, None]
    made = quantize(weights, format=f"int{bits}_asym", group_size="row")
    for row, group in enumerate(weights):
        low, high = min(float(group.min()), 0.0), max(float(group.max()), 0.0)
        delta = np.float32((high - low) / top)
        zero = min(max(np.ceil(float(np.float32(-low) / delta) - 0.5), 0), top)
        codes = [min(max(np.ceil(float(x) - 0.5) + zero, 0), top) for x in group / delta]
        assert made.row_scales[row] == delta, f"row {row}"
        assert made.zeros[row, 0] == zero, f"row {row}"
        assert made.codes[row].tolist() == codes, f"row {row}"


@pytest.mark.parametrize("name", ["int2", "int4", "int8", "ternary"])
def test_symmetric_integers_leave_the_lowest_code_alone(name):
    weights = random_weights(2, 16, 256)
    weights[:, 0] = -9  # the largest magnitude is negative
    made = quantize(weights, format=name, group_size=64)
    item = made.members[0]
    assert isinstance(item, ValueFormat)
    assert min(item.values) not in np.take(item.values, made.codes)


def test_minus_zero_is_not_a_code():
    weights = -np.abs(random_weights(4, 8, 128)) * np.float32(1e-3)
    weights[:, 0] = -1
    assert 8 not in quantize(weights, format="float4_e2m1", group_size=64).codes


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_a_row_does_not_depend_on_its_neighbours(name, method):
    # 600 x 300 weights are cut into two blocks; a single row and a single group are others.
    weights = random_weights(6, 600, 300)
    made = quantize(weights, format=name, group_size=64, method=method)
    for row in (0, 435, 436, 437, 599):
        alone = quantize(weights[row : row + 1], format=name, group_size=64, method=method)
        assert same(alone, quantize(weights[[row]], format=name, group_size=64, method=method))
        assert np.array_equal(alone.codes[0], made.codes[row])
        assert np.array_equal(alone.scales[0], made.scales[row])
        assert np.array_equal(alone.zeros[0], made.zeros[row])
        assert alone.row_scales[0] == made.row_scales[row]


def test_sizes_beyond_the_row_take_the_row():
    weights = random_weights(1, 4, 50)
    whole = quantize(weights, format="bitmod4", group_size=None)
    for group_size in ("row", 50, 51, 4096):
        assert same(whole, quantize(weights, format="bitmod4", group_size=group_size))


def test_defaults_fit_the_format():
    assert method_for(family("int4")).name == "absmax"
    assert method_for(family("bitmod4")).name == "absmax"
    assert method_for(family("bcq3")).name == "alternating"
    weights = random_weights(1, 4, 50)
    for name in ("int4", "bcq2"):
        chosen = method_for(family(name)).name
        assert same(quantize(weights, format=name), quantize(weights, format=name, method=chosen))


@pytest.mark.parametrize("scale_width", [1, 4, 8, 12, 16, 24, 31])
def test_scale_width_bounds_the_scales(scale_width):
    weights = random_weights(1, 8, 256)
    for name in ("int4", "bcq2_asym"):
        made = quantize(weights, format=name, group_size=32, scale_width=scale_width)
        assert made.scale_width == scale_width
        assert np.abs(made.scales).max() == (1 << scale_width) - 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, ">f4", np.int8])
def test_other_number_types_are_taken_as_float32(dtype):
    weights = (random_weights(9, 4, 32) * 10).astype(dtype)
    assert same(
        quantize(weights, format="int4"), quantize(weights.astype(np.float32), format="int4")
    )


def test_layout_of_the_memory_does_not_matter():
    weights = random_weights(9, 40, 32)
    turned = np.asfortranarray(weights)
    assert same(quantize(weights, format="bitmod3"), quantize(turned, format="bitmod3"))
    assert same(
        quantize(weights[::2, ::-1].copy(), format="bcq2"),
        quantize(weights[::2, ::-1], format="bcq2"),
    )


def test_weights_are_left_alone():
    weights = random_weights(9, 40, 32)
    weights.setflags(write=False)
    for name in ("int4_asym", "bitmod4", "bcq2_asym"):
        quantize(weights, format=name, group_size=16)


def test_bias_is_kept():
    weights = random_weights(9, 4, 32)
    made = quantize(weights, format="int4", bias=[1, 2.5, -3, 0])
    assert made.bias is not None
    assert made.bias.dtype == np.float32
    assert made.bias.tolist() == [1, 2.5, -3, 0]


def with_value(value, position):
    weights = np.zeros((600, 8), dtype=np.float32)
    weights[position] = value
    weights[-1, -1] = np.nan
    return weights


@pytest.mark.parametrize(
    ("weights", "choices", "sentence"),
    [
        (np.zeros(4), {}, r"Weights must be two-dimensional, \(N, K\), not of shape \(4,\)"),
        (np.zeros((2, 2, 2)), {}, r"two-dimensional.*\(2, 2, 2\)"),
        (np.float32(3), {}, r"two-dimensional"),
        (np.zeros((0, 4)), {}, r"rows and columns, not shape \(0, 4\)"),
        (np.zeros((4, 0)), {}, r"rows and columns, not shape \(4, 0\)"),
        (np.zeros((2, 2), dtype=complex), {}, r"real numbers, not complex128"),
        (np.array([["a", "b"]]), {}, r"real numbers"),
        (with_value(np.nan, (1, 3)), {}, r"the one at \[1, 3\] is NaN"),
        (with_value(-np.inf, (299, 0)), {}, r"the one at \[299, 0\] is infinite"),
        (np.full((1, 1), 1e300), {}, r"the one at \[0, 0\] is infinite"),
        (np.ones((2, 2)), {"format": "int9"}, r"Unknown format 'int9'; known formats: int2"),
        (np.ones((2, 2)), {"method": "best"}, r"Unknown method 'best'.*: absmax, mse, "),
        (np.ones((2, 2)), {"method": "greedy"}, r"'greedy' cannot.*'int4'.*: absmax, mse, "),
        (
            np.ones((2, 2)),
            {"format": "bcq2", "method": "mse"},
            r"'mse' cannot.*'bcq2'.*: alternating, greedy, ",
        ),
        (np.ones((2, 2)), {"group_size": 0}, r"Group size must be at least 1"),
        (np.ones((2, 2)), {"group_size": -4}, r"Group size must be at least 1"),
        (np.ones((2, 2)), {"group_size": 2.5}, r"Group size must be an integer"),
        (np.ones((2, 2)), {"group_size": "col"}, r"Group size must be an integer, or 'row'"),
        (np.ones((2, 2)), {"scale_width": 0}, r"Scale width must be in 1..31, not 0"),
        (np.ones((2, 2)), {"scale_width": 32}, r"Scale width must be in 1..31, not 32"),
        (np.ones((2, 2)), {"bias": [1, 2, 3]}, r"Bias must have one number a row, 2, not 3"),
        (np.ones((2, 2)), {"bias": [1, np.nan]}, r"Bias.*\[1\] is NaN"),
        (np.ones((2, 2)), {"bias": [[1, 2]]}, r"Bias must be one-dimensional"),
    ],
)
def test_bad_input_is_told_in_one_sentence(weights, choices, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        quantize(weights, **{"format": "int4", **choices})
    assert "\n" not in str(caught.value)


def test_a_large_matrix_is_quick():
    weights = random_weights(0, 4096, 4096)
    start = time.perf_counter()
    quantize(weights, format="bitmod4", group_size=128)
    seconds = time.perf_counter() - start
    assert seconds < 5, f"{seconds:.1f} s for 4096 x 4096"
