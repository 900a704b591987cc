import numpy as np
import pytest

from lutra.formats import CATALOG, family
from lutra.quant import LayerCalibration, quantize
from lutra.quant.group_searches import find_search, searches_for
from lutra.quant.input_hessian import damped_hessian, inverse_factor

NAMES = [name for name, entry in CATALOG.items() if searches_for(entry)]
SOME = ["int2", "int3_asym", "bitmod3", "bcq2_asym", "float4_e2m1", "int3_affine"]


def layer(seed, rows=12, columns=70, tokens=200):
    """Return weights, and inputs that are correlated and of different sizes."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((columns, columns)) * np.exp(rng.standard_normal(columns))
    inputs = rng.standard_normal((tokens, columns)) @ mixing / np.sqrt(columns)
    weights = rng.standard_normal((rows, columns))
    return weights.astype(np.float32), inputs.astype(np.float32)


def output_error(made, weights, inputs):
    errors = (made.dequantize() - weights) @ inputs.T.astype(np.float64)
    return float((errors**2).sum())


def literal(weights, inputs, name, group_size, *, damping, order):
    """Algorithm 1 with static groups, one weight at a time; returns codes by their columns."""
    columns = weights.shape[1]
    x = inputs.astype(np.float64)
    hessian = x.T @ x / len(x)
    hessian += damping * np.trace(hessian) / columns * np.eye(columns)
    turns = list(range(columns))
    if order == "activation":
        turns.sort(key=lambda k: -hessian[k, k])
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(turns, turns)])).T
    costs = {k: 1 / np.float32(upper[t, t]).astype(np.float64) ** 2 for t, k in enumerate(turns)}
    entry = family(name)
    search = find_search(entry, "auto")
    codes = np.zeros(weights.shape, np.uint8)
    for n, row in enumerate(weights):
        groups = []
        for start in range(0, columns, group_size):
            some = range(start, min(start + group_size, columns))
            factors = np.array([[costs[k]] for k in some])
            groups.append(search(np.ascontiguousarray(row[some, None]), factors))
        # The second level of scales, as the golden model has it.
        scales = np.array([made.scales[:, 0] for made in groups], np.float64)
        step = np.float32(np.abs(scales).max() / 255)
        integers = np.rint(scales / np.float64(step)).astype(int)
        rest = row.astype(np.float64)
        for turn, k in enumerate(turns):
            made, factor = groups[k // group_size], integers[k // group_size]
            item = entry.members[made.format_ids[0]]
            table = item.weight_table(factor[: item.scale_count])
            if item.has_zero_point:
                table = table - table[made.zeros[0]]
            usable = [c for c in range(len(table)) if c not in getattr(item, "unused", ())]
            best = min(
                usable, key=lambda c: (abs(table[c] * np.float64(step) - rest[k]), table[c], c)
            )
            codes[n, k] = best
            error = (rest[k] - table[best] * np.float64(step)) / upper[turn, turn]
            for later in range(turn + 1, columns):
                rest[turns[later]] -= error * upper[turn, later]
    return codes


@pytest.mark.parametrize("order", ["given", "activation"])
@pytest.mark.parametrize("name", SOME)
def test_codes_are_those_of_the_algorithm(name, order):
    weights, inputs = layer(1, rows=5)
    made = quantize(
        weights,
        format=name,
        group_size=16,
        method="gptq",
        calibration=inputs,
        options={"scales": "before", "order": order, "damping": 0.05},
    )
    wanted = literal(weights, inputs, name, 16, damping=0.05, order=order)
    assert np.array_equal(made.codes, wanted)
    assert made.column_order is None


@pytest.mark.parametrize("order", ["given", "activation"])
@pytest.mark.parametrize("scales", ["before", "along"])
@pytest.mark.parametrize("name", NAMES)
def test_the_output_suffers_less_than_by_rounding(name, scales, order):
    weights, inputs = layer(2, rows=24)
    width = 16 if "affine" in name or "free" in name else 8
    # Sixteen entries for as many weights would leave no error.
    size = 35 if "free" in name else 16
    given = {"format": name, "group_size": size, "scale_width": width}
    plain = quantize(weights, **given, method=searches_for(family(name))[0])
    options = {"scales": scales, "order": order}
    made = quantize(weights, **given, method="gptq", calibration=inputs, options=options)
    assert output_error(made, weights, inputs) < 0.9 * output_error(plain, weights, inputs)


@pytest.mark.parametrize("group_size", [1, 16, 50, 150, 200, "row"])
@pytest.mark.parametrize("name", ["int4", "bcq2_asym"])
def test_blocks_and_groups_of_any_size(name, group_size):
    """More columns than a block; groups that are a part of one, and of which it is a part."""
    weights, inputs = layer(3, rows=6, columns=300, tokens=400)
    made = quantize(weights, format=name, group_size=group_size, method="gptq", calibration=inputs)
    plain = quantize(weights, format=name, group_size=group_size)
    assert output_error(made, weights, inputs) < output_error(plain, weights, inputs)


def test_the_block_does_not_matter(monkeypatch):
    weights, inputs = layer(4, rows=6)
    made = []
    for block in (8, 24, 128):
        monkeypatch.setattr("lutra.quant.error_feedback._BLOCK", block)
        made.append(
            quantize(weights, format="int3", group_size=24, method="gptq", calibration=inputs)
        )
    assert np.array_equal(made[0].codes, made[1].codes)
    assert np.array_equal(made[0].codes, made[2].codes)


def test_white_inputs_leave_nothing_to_make_up_for():
    weights, _ = layer(5)
    inputs = np.eye(70, dtype=np.float32) * np.float32(np.sqrt(70))
    options = {"scales": "before"}
    for name in ("int3", "bitmod3", "bcq2"):
        given = {"format": name, "group_size": 16}
        made = quantize(weights, **given, method="gptq", calibration=inputs, options=options)
        plain = quantize(weights, **given, method=searches_for(family(name))[0])
        assert np.array_equal(made.scales, plain.scales)
        # Codes are rounded for integer scales here, and for those in float32 there.
        assert (made.codes != plain.codes).mean() < 0.01


def test_groups_in_the_order_of_activations():
    weights, inputs = layer(6)
    made = quantize(
        weights,
        format="int4",
        group_size=16,
        method="gptq",
        calibration=inputs,
        options={"order": "activation"},
    )
    squares = (inputs.astype(np.float64) ** 2).mean(axis=0)
    assert made.column_order is not None
    assert np.array_equal(made.column_order, np.argsort(-squares, kind="stable"))


def test_zero_rows_and_dead_inputs():
    weights, inputs = layer(7)
    weights[3] = 0
    inputs[:, 10:30] = 0
    for name in SOME:
        made = quantize(
            weights,
            format=name,
            group_size=16,
            method="gptq",
            calibration=inputs,
            scale_width=16,
        )
        assert not made.dequantize()[3].any()
        plain = quantize(weights, format=name, group_size=16, scale_width=16)
        assert output_error(made, weights, inputs) < output_error(plain, weights, inputs)
    silent = quantize(
        weights, format="int4", method="gptq", calibration=np.zeros((3, 70), np.float32)
    )
    assert np.linalg.norm(silent.dequantize() - weights) < 0.2 * np.linalg.norm(weights)


def test_importance_of_outputs_does_not_matter():
    weights, inputs = layer(8)
    given = {"format": "int3", "group_size": 16, "method": "gptq"}
    plain = quantize(weights, **given, calibration=inputs)
    known = LayerCalibration(inputs=inputs, importance=np.arange(12.0))
    assert np.array_equal(plain.codes, quantize(weights, **given, calibration=known).codes)


def test_factor_of_the_inverse():
    for size in (1, 7, 64, 65, 200):
        rng = np.random.default_rng(size)
        hessian = damped_hessian(rng.standard_normal((300, size)).astype(np.float32), 0.01)
        factor = inverse_factor(hessian)
        assert np.array_equal(factor, np.triu(factor))
        wanted = np.linalg.cholesky(np.linalg.inv(hessian)).T
        assert np.allclose(factor, wanted, rtol=1e-9, atol=1e-9)


def test_an_indefinite_matrix_is_refused():
    with pytest.raises(ValueError, match="not positive definite; use more calibration tokens"):
        inverse_factor(np.array([[1.0, 2.0], [2.0, 1.0]]))


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({}, "Method 'gptq' needs the activations of calibration text"),
        ({"calibration": np.ones((4, 9))}, r"one number a column, \(M, 8\), not shape \(4, 9\)"),
        ({"calibration": np.ones((0, 8))}, r"not shape \(0, 8\)"),
        ({"calibration": np.full((4, 8), np.nan)}, r"Inputs must be finite"),
        (
            {"calibration": np.ones((4, 8)), "options": {"base": "alternating"}},
            "cannot be 'alternating' for format 'int4'; methods that find its scales: mse, absmax",
        ),
        (
            {"calibration": np.ones((4, 8)), "method": "absmax"},
            "'absmax' does not use calibration data$",
        ),
        (
            {"calibration": np.ones((4, 8)), "method": "mse"},
            "unless its option 'weighting' is 'activation'$",
        ),
        ({"method": "mse", "options": {"weighting": "activation"}}, "'weighting' to 'none'$"),
        (
            {
                "calibration": LayerCalibration(
                    inputs=np.ones((4, 8), np.float32), importance=-np.ones(1)
                )
            },
            "Importance must be 2 or 1 numbers that are not negative",
        ),
    ],
)
def test_bad_input_is_told_in_one_sentence(choices, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        quantize(np.ones((2, 8)), **{"format": "int4", "method": "gptq", **choices})
    assert "\n" not in str(caught.value)
