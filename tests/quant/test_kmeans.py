import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.formats import CodebookFormat
from lutra.quant import ModelFile, Recipe, quantize, quantize_file
from lutra.quant.weighted_kmeans import weighted_kmeans


def layer(seed, rows=20, columns=96, tokens=60):
    rng = np.random.default_rng(seed)
    weights = rng.standard_t(4, (rows, columns)).astype(np.float32)
    inputs = rng.standard_normal((tokens, columns)) * np.exp(rng.standard_normal(columns))
    return weights, inputs.astype(np.float32)


def lloyd(values, factors, centres, rounds):
    """Lloyd's iteration, one value at a time."""
    centres = list(centres)
    clusters = None
    for _ in range(rounds):
        now = [
            min(range(len(centres)), key=lambda c: (abs(v - centres[c]), centres[c]))
            for v in values
        ]
        if now == clusters:
            break
        clusters = now
        for c in range(len(centres)):
            own = [(v, f) for v, f, k in zip(values, factors, clusters, strict=True) if k == c]
            mass = sum(f for _, f in own)
            if mass > 0:
                centres[c] = sum(v * f for v, f in own) / mass
    return centres


def squared_error(values, factors, centres):
    distances = np.abs(values[:, None] - np.asarray(centres)).min(axis=1)
    return float((factors * distances**2).sum())


@pytest.mark.parametrize("count", [2, 4, 8])
def test_centres_are_those_of_lloyd(count):
    rng = np.random.default_rng(count)
    values, factors = rng.standard_normal((60, 7)), rng.exponential(size=(60, 7))
    found = weighted_kmeans(values, factors, count, 50)
    for column in range(7):
        v, f = values[:, column], factors[:, column]
        ordered = np.argsort(v)
        mass = np.cumsum(f[ordered])
        shares = (np.arange(count) + 0.5) / count
        even = [v[ordered][np.flatnonzero(mass >= share * mass[-1])[0]] for share in shares]
        spread = v.min() + (v.max() - v.min()) * shares
        tried = [lloyd(list(v), list(f), start, 50) for start in (even, list(spread))]
        wanted = min(tried, key=lambda centres: squared_error(v, f, centres))
        assert np.allclose(found[:, column], wanted, rtol=1e-9, atol=1e-12)


def test_few_clusters_are_the_best_there_are():
    """Two clusters: every cut of the ordered values is tried."""
    rng = np.random.default_rng(5)
    values, factors = rng.standard_normal((40, 20)), rng.exponential(size=(40, 20))
    found = weighted_kmeans(values, factors, 2, 100)
    good = 0
    for column in range(20):
        order = np.argsort(values[:, column])
        v, f = values[order, column], factors[order, column]
        best = min(
            squared_error(v, f, [np.average(part, weights=own) for part, own in parts])
            for cut in range(1, 40)
            for parts in [[(v[:cut], f[:cut]), (v[cut:], f[cut:])]]
        )
        reached = squared_error(v, f, found[:, column])
        assert reached >= best * (1 - 1e-12)
        good += reached <= best * (1 + 1e-9)
    assert good >= 10


def test_degenerate_sets():
    values = np.zeros((5, 3))
    values[:, 1] = [1, 1, 1, 2, 2]
    values[:, 2] = 7
    factors = np.ones((5, 3))
    factors[:, 2] = 0
    found = weighted_kmeans(values, factors, 4, 10)
    assert not found[:, 0].any()
    assert {1.0, 2.0} <= set(found[:, 1])
    assert set(found[:, 2]) == {7.0}


@pytest.mark.parametrize("name", ["free2", "free3", "free4"])
def test_weights_with_few_values_come_back(name):
    rng = np.random.default_rng(1)
    count = 1 << int(name[-1])
    tables = rng.integers(-2000, 2000, (6, count))
    weights = np.take_along_axis(tables, rng.integers(0, count, (6, 200)), axis=1) / 64
    made = quantize(weights, format=name, group_size="row", scale_width=16)
    assert np.allclose(made.dequantize(), weights, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["free2", "free3", "free4"])
def test_weighting_lowers_the_weighted_error(name):
    weights, inputs = layer(2)
    squares = (inputs.astype(np.float64) ** 2).mean(axis=0)
    errors = {}
    for weighting in ("none", "activation"):
        made = quantize(
            weights,
            format=name,
            group_size="row",
            scale_width=16,
            options={"weighting": weighting},
            calibration=inputs if weighting != "none" else None,
        )
        error = (made.dequantize() - weights) ** 2
        errors[weighting] = error.sum(), (error * squares).sum()
    assert errors["none"][0] < errors["activation"][0]
    assert errors["activation"][1] < 0.9 * errors["none"][1]


def test_sparse_weights_are_kept():
    weights, inputs = layer(3)
    given = {"format": "free3", "group_size": "row", "scale_width": 16, "calibration": inputs}
    dense = quantize(weights, **given, options={"weighting": "activation"})
    made = quantize(
        weights,
        **given,
        options={"weighting": "activation", "outliers": 0.02, "sensitive": 0.01},
    )
    assert dense.outliers is None
    assert made.outliers is not None
    sparse = np.zeros(weights.shape, bool)
    sparse[made.outliers.entry_rows, made.outliers.columns] = True
    assert sparse.sum() == round(0.02 * weights.size) + round(0.01 * weights.size)
    largest = np.sort(np.abs(weights), axis=None)[-round(0.02 * weights.size)]
    assert sparse[np.abs(weights) >= largest].all()
    exact = np.abs(made.dequantize() - weights) <= made.row_scales[:, None] * 0.5000001
    assert exact[sparse].all()
    squares = (inputs.astype(np.float64) ** 2).mean(axis=0)
    losses = [((item.dequantize() - weights) ** 2 * squares).sum() for item in (dense, made)]
    assert losses[1] < 0.7 * losses[0]


def test_sparse_weights_in_a_file(tmp_path):
    weights, inputs = layer(4)
    save_file({"a.weight": weights}, tmp_path / "c")
    save_file({"a.inputs": inputs}, tmp_path / "x")
    options = {"weighting": "activation", "outliers": 0.02}
    recipe = Recipe(format="free4", group_size="row", scale_width=16, options=options)
    quantize_file(tmp_path / "c", tmp_path / "m", recipe, calibration=tmp_path / "x")
    made = quantize(
        weights, format="free4", group_size="row", scale_width=16, options=options,
        calibration=inputs,
    )  # fmt: skip
    file = ModelFile(tmp_path / "m")
    assert file.recipe == recipe
    assert np.array_equal(file.layer("a").integer_weights(), made.integer_weights())


@pytest.mark.parametrize("width", [3, 4])
def test_one_codebook_for_a_layer(width):
    weights, inputs = layer(5, columns=128)
    name = f"codebook{width}"
    options = {"weighting": "activation"}
    made = quantize(
        weights, format=name, group_size=32, method="kmeans", options=options, calibration=inputs
    )
    (item,) = made.members
    assert isinstance(item, CodebookFormat)
    assert len(item.values) == 1 << width
    assert max(map(abs, item.values)) == 127
    squares = (inputs.astype(np.float64) ** 2).mean(axis=0)
    uniform = quantize(
        weights,
        format=f"int{width}",
        group_size=32,
        method="mse",
        options=options,
        calibration=inputs,
    )
    losses = [((m.dequantize() - weights) ** 2 * squares).sum() for m in (made, uniform)]
    assert losses[0] < losses[1]
    recipe = Recipe(format=name, group_size=32, method="kmeans", options=options)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert not quantize(np.zeros((2, 8)), format=name, method="kmeans").dequantize().any()


def test_refusals():
    with pytest.raises(ValueError, match="Outliers go with formats such as free4, not with 'code"):
        quantize(np.ones((2, 8)), format="codebook3", method="kmeans", options={"outliers": 0.01})
    with pytest.raises(ValueError, match="has no values of its own"):
        quantize(np.ones((2, 8)), format="codebook3")
    with pytest.raises(ValueError, match="'kmeans' cannot quantise to format 'codebook3'"):
        quantize(np.ones((2, 8)), format="codebook3", method="kmeans", codebook=range(8))
