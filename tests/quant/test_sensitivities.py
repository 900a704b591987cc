"""Traces and masks as sensitivities, against their definitions."""

import numpy as np
import pytest
import torch

from lutra.quant import LayerCalibration, Mixture
from lutra.quant.hutchinson import group_traces, hutchinson
from lutra.quant.layer_options import LayerOptions
from lutra.quant.learned import hessian_traces


def layer(seed, rows=6, columns=40, tokens=50):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((tokens, columns)) * np.exp(rng.standard_normal(columns)) / 8
    weights = rng.standard_normal((rows, columns)).astype(np.float32)
    known = LayerCalibration(
        inputs=inputs.astype(np.float32), importance=rng.exponential(size=rows)
    )
    return weights, known


def options(weights, known, sensitivity, unit):
    mixture = Mixture.from_fields({
        "formats": ("int2", "int3", "int4"), "budget": {"bits": 3}, "group_size": 16,
        "sensitivity": sensitivity, "unit": unit, "scale_width": 16,
    })  # fmt: skip
    return LayerOptions(weights, mixture, known)


def test_hutchinson_takes_these_signs():
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((7, 7))
    signs = np.random.default_rng(5).integers(0, 2, (7, 4)) * 2.0 - 1
    wanted = sum(signs[:, i] @ matrix @ signs[:, i] for i in range(4)) / 4
    found = hutchinson(lambda v: matrix @ v, 7, probes=4, seed=5)
    assert found == pytest.approx(wanted, rel=1e-12)
    # Signs know a diagonal exactly.
    assert hutchinson(lambda v: np.arange(7)[:, None] * v, 7, probes=1) == 21
    many = hutchinson(lambda v: matrix @ v, 7, probes=20_000)
    assert many == pytest.approx(np.trace(matrix), abs=0.15)


def test_traces_of_groups():
    _, known = layer(2)
    x = known.inputs.astype(np.float64)
    found = group_traces(known.inputs, 16, probes=4000)
    for group, start in enumerate(range(0, 40, 16)):
        part = x[:, start : start + 16]
        assert found[group] == pytest.approx((part**2).sum() / 50, rel=0.05)
    assert np.array_equal(group_traces(known.inputs, 16), group_traces(known.inputs, 16))


@pytest.mark.parametrize("unit", ["group", "row", "columns", "layer"])
def test_losses_by_trace(unit):
    weights, known = layer(3)
    made = options(weights, known, "trace", unit)
    traces = group_traces(known.inputs, 16)
    for index, candidate in enumerate(made.candidates):
        errors = made._errors(candidate).astype(np.float64) ** 2
        grid = np.zeros((6, 3))
        for n in range(6):
            for g in range(3):
                own = errors[n, 16 * g : 16 * g + 16]
                grid[n, g] = known.importance[n] * traces[g] / len(own) * own.sum()
        axes = {"group": (), "row": (1,), "columns": (0,), "layer": (0, 1)}[unit]
        assert np.allclose(made.losses()[:, index], grid.sum(axis=axes).reshape(-1), rtol=1e-9)


@pytest.mark.parametrize("unit", ["group", "row", "columns", "layer"])
def test_losses_by_mask(unit):
    weights, known = layer(4)
    weights[2, :16] = 0
    made = options(weights, known, "masked", unit)
    x = known.inputs.astype(np.float64)

    def softmax(y):
        powers = np.exp(y - y.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    p = softmax(x @ weights.T)
    rows = [[n] for n in range(6)] if unit in ("group", "row") else [list(range(6))]
    cuts = [slice(0, 40)] if unit in ("row", "layer") else [slice(s, s + 16) for s in (0, 16, 32)]
    losses = made.losses()
    for unit_index, (row, cut) in enumerate((row, cut) for row in rows for cut in cuts):
        masked = weights.copy()
        masked[row, cut] = 0
        q = softmax(x @ masked.T)
        lost = (q * np.log(q / p)).sum() / len(x)
        squares = (weights[row, cut].astype(np.float64) ** 2).sum()
        for index, candidate in enumerate(made.candidates):
            errors = made._errors(candidate)[row, cut].astype(np.float64)
            wanted = lost * (errors**2).sum() / squares if squares else 0
            assert losses[unit_index, index] == pytest.approx(wanted, rel=1e-3, abs=1e-9)


def test_traces_of_a_loss():
    torch.manual_seed(1)
    x, w, v = torch.randn(30, 4), torch.randn(4, 3, requires_grad=True), torch.randn(
        3, requires_grad=True
    )  # fmt: skip

    def loss(w, v):
        return (torch.tanh(x @ w) @ v).square().mean()

    exact = []
    for index, item in enumerate((w, v)):
        hessian = torch.autograd.functional.hessian(loss, (w, v))[index][index]
        exact.append(float(hessian.reshape(item.numel(), item.numel()).trace()))
    found = hessian_traces(loss(w, v), [w, v], probes=3000)
    assert found == pytest.approx(exact, rel=0.1)
    assert hessian_traces(loss(w, v), [w, v]) == hessian_traces(loss(w, v), [w, v])
