import numpy as np
import pytest

from lutra.quant import Mixture, quantize, quantize_mixture, slim
from lutra.quant.divergence import OutputDivergence
from lutra.quant.slim import slim_salience


def data(rows=12, columns=64, tokens=40, seed=5):
    rng = np.random.default_rng(seed)
    spread = rng.lognormal(0, 1, columns).astype(np.float32)
    weights = rng.standard_normal((rows, columns)).astype(np.float32)
    return weights, rng.standard_normal((tokens, columns)).astype(np.float32) * spread


def divergence_of(weights, quantised, inputs):
    """KL(softmax(x Q^T) || softmax(x W^T)), plainly."""

    def log_softmax(y):
        return (
            y
            - np.log(np.exp(y - y.max(1, keepdims=True)).sum(1, keepdims=True))
            - y.max(1, keepdims=True)
        )

    x = inputs.astype(np.float64)
    log_q, log_p = log_softmax(x @ quantised.T), log_softmax(x @ weights.astype(np.float64).T)
    return float((np.exp(log_q) * (log_q - log_p)).sum(1).mean())


@pytest.mark.parametrize("groups", range(1, 9))
def test_against_every_count(groups):
    rng = np.random.default_rng(groups)
    for _ in range(20):
        salience = rng.random(groups)
        table = {}

        def divergence(choices, table=table, rng=rng):
            return table.setdefault(tuple(choices.tolist()), rng.random())

        found = slim(salience, divergence)
        assert len(table) == groups // 2 + 1
        assert table[tuple(found.tolist())] == min(table.values())
        for choices in table:
            low, high = np.array(choices) == 0, np.array(choices) == 2
            assert low.sum() == high.sum()
            assert np.mean(choices) == 1
            if low.any():
                middle = salience[np.array(choices) == 1]
                assert salience[low].max() <= min(middle.min(initial=1.0), salience[high].min())
                assert middle.max(initial=0.0) <= salience[high].min()


def test_the_first_of_equals():
    assert slim([1.0, 2.0, 3.0, 4.0], lambda _: 0.5).tolist() == [1, 1, 1, 1]
    assert slim([1.0, 1.0], lambda choices: -float(choices[1])).tolist() == [0, 2]


def test_salience_by_its_formula():
    weights, inputs = data()
    hessian = 2 / len(inputs) * inputs.T.astype(np.float64) @ inputs
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(64)
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    wanted = (weights.astype(np.float64) ** 2 / np.diag(upper) ** 2).sum(axis=0)
    found = slim_salience(weights, inputs, 24)
    assert found == pytest.approx([wanted[:24].sum(), wanted[24:48].sum(), wanted[48:].sum()])
    silent = slim_salience(weights, np.zeros_like(inputs), 24)
    assert np.isfinite(silent).all()


def test_divergence_by_its_formula():
    weights, inputs = data()
    errors = np.random.default_rng(6).normal(0, 0.1, weights.shape).astype(np.float32)
    divergence = OutputDivergence(weights, inputs)
    assert divergence.of(errors) == pytest.approx(
        divergence_of(weights, weights + errors.astype(np.float64), inputs), rel=1e-4
    )
    assert divergence.of(np.zeros_like(errors)) < 1e-15


@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("unit", ["group", "row", "columns", "layer"])
def test_divergence_of_each_unit_alone(unit, size):
    weights, inputs = data(rows=5, columns=40)
    errors = np.random.default_rng(6).normal(0, size, weights.shape).astype(np.float32)
    found = OutputDivergence(weights, inputs).by_unit(errors, unit, 16)
    cuts = [slice(0, 16), slice(16, 32), slice(32, 40)]
    rows, whole = [slice(n, n + 1) for n in range(5)], slice(None)
    parts = {
        "group": [(row, cut) for row in rows for cut in cuts],
        "row": [(row, whole) for row in rows],
        "columns": [(whole, cut) for cut in cuts],
        "layer": [(whole, whole)],
    }[unit]
    wanted = []
    for part in parts:
        changed = weights.astype(np.float64)
        changed[part] += errors[part]
        wanted.append(divergence_of(weights, changed, inputs))
    assert np.isfinite(found).all()
    assert found == pytest.approx(wanted, rel=2e-3, abs=1e-9)


def test_small_divergences_are_accurate():
    """Outputs with probabilities of 1e-30 and less still tell a small error from a smaller one."""
    weights, inputs = data(rows=30)
    errors = np.random.default_rng(6).normal(0, 1e-3, weights.shape).astype(np.float32)
    divergence = OutputDivergence(weights * 12, inputs)
    whole = divergence.by_unit(errors, "row", 64)
    half = divergence.by_unit(errors * np.float32(0.5), "row", 64)
    assert whole.min() < 1e-30
    assert whole / half == pytest.approx(4, rel=0.05)


def test_divergence_in_pieces(monkeypatch):
    weights, inputs = data()
    errors = np.random.default_rng(6).normal(0, 0.1, weights.shape).astype(np.float32)
    at_once = OutputDivergence(weights, inputs).by_unit(errors, "group", 16)
    monkeypatch.setattr("lutra.quant.divergence._VALUES_AT_ONCE", 7 * len(weights))
    in_pieces = OutputDivergence(weights, inputs).by_unit(errors, "group", 16)
    assert in_pieces == pytest.approx(at_once, rel=1e-5)


def test_a_layer_by_the_rule():
    """The choice is the best of all equal counts, and the mean is three bits exactly."""
    formats = ("int2", "int3", "int4")
    weights, inputs = data(columns=136)  # eight groups of 16 and one of 8
    recipe = Mixture(formats=formats, allocator="slim", budget={"bits": 3}, group_size=16)
    found = quantize_mixture(weights, recipe, inputs=inputs)
    assert found.code_bits == 3 * weights.size
    names = np.array([item.name for item in found.members])[found.format_ids]
    assert (names == names[0]).all()  # all rows share a column's format
    assert names[0, -1] == "int3"  # the shorter one does not move
    order = np.argsort(slim_salience(weights, inputs, 16)[:8], kind="stable")
    best = None
    for count in range(5):
        chosen = ["int3"] * 9
        for index in order[:count]:
            chosen[index] = "int2"
        for index in order[8 - count :]:
            chosen[index] = "int4"
        # Candidates are measured with the coarsest second level that a choice can lead to.
        peaks = np.max([_scales(weights, name).max(axis=1) for name in formats], axis=0)
        mixed = np.zeros(weights.shape)
        for group, name in enumerate(chosen):
            columns = slice(16 * group, 16 * group + 16)
            alone = quantize(weights, format=name, group_size=16)
            integers = alone.integer_weights()[:, columns] / alone.scales[:, group]
            steps = peaks / np.float32(255)
            scales = np.rint(_scales(weights, name)[:, group] / steps.astype(np.float64))
            mixed[:, columns] = integers * scales[:, None] * steps[:, None]
        value = divergence_of(weights, mixed, inputs)
        if best is None or value < best[0] - 1e-9:
            best = value, chosen
    assert best is not None
    assert names[0].tolist() == best[1]


def _scales(weights, name):
    largest = {"int2": 1, "int3": 3, "int4": 7}[name]
    padded = np.pad(np.abs(weights), ((0, 0), (0, -weights.shape[1] % 16)))
    return padded.reshape(len(weights), -1, 16).max(axis=2) / np.float32(largest)
