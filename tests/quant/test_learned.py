"""What is learned by gradients, against the same steps written out."""

import sys

import numpy as np
import pytest

from lutra.formats import CATALOG, family
from lutra.quant import METHODS, quantize
from lutra.quant.clip_start import ClipStart
from lutra.quant.group_searches import find_search
from lutra.quant.groups import search_groups
from lutra.quant.input_hessian import damped_hessian
from lutra.quant.learned import LearnedClipping, learn_rounding
from lutra.quant.nearest_codes import nearest_codes

CLIPPED = [name for name, entry in CATALOG.items() if METHODS["learned_clipping"].serves(entry)]
ROUNDED = ["int2", "int3_asym", "float4_e2m1", "bitmod3", "power4", "bcq2_asym", "int2_affine"]


def layer(seed, rows=16, columns=48, tokens=160):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((columns, columns)) * np.exp(rng.standard_normal(columns))
    inputs = rng.standard_normal((tokens, columns)) @ mixing / np.sqrt(columns)
    weights = rng.standard_normal((rows, columns))
    return weights.astype(np.float32), inputs.astype(np.float32)


def output_errors(made, weights, inputs):
    errors = (made.dequantize() - weights) @ inputs.T.astype(np.float64)
    return (errors**2).sum(axis=1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def adam(values, slopes, state, rate, step):
    """One step of Adam as Kingma and Ba have it, in float64."""
    first, second = state
    first[:] = 0.9 * first + 0.1 * slopes
    second[:] = 0.999 * second + 0.001 * slopes**2
    change = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return values - rate * change


def test_clipping_takes_these_steps():
    """Symmetric integers, one group a row: gradients by hand."""
    weights, inputs = layer(1, rows=5, columns=20)
    hessian = damped_hessian(inputs, 0.01)
    found = search_groups(
        weights, find_search(family("int3"), "absmax"), members=family("int3").members,
        group_size=20,
    )  # fmt: skip
    start = ClipStart.of(weights, family("int3"), found)
    high, _ = LearnedClipping(weights, hessian, start, "cpu").learn(6, 0.1)
    largest = np.abs(weights).max(axis=1).astype(np.float64)
    logits = np.full(5, 4.0)
    state = [np.zeros(5), np.zeros(5)]
    best, least, first = np.ones(5), np.full(5, np.inf), None
    for step in range(-1, 7):
        ratio = sigmoid(logits) if step >= 0 else np.ones(5)  # the start comes before all steps
        delta = ratio * largest / 3
        x = weights / delta[:, None]
        v = np.clip(np.ceil(x - 0.5), -3, 3)  # ties go down
        errors = v * delta[:, None] - weights
        losses = np.einsum("nk,kj,nj->n", errors, hessian, errors)
        best = np.where(losses < least, ratio, best)
        least = np.minimum(losses, least)
        if first is None:
            first = losses
            continue
        # Inside, v - x is a constant and x * delta is w; outside, v is a constant.
        by_delta = np.where(np.abs(x) > 3, v, v - x)
        slope = (errors @ hessian * by_delta).sum(axis=1) / first
        slope *= largest / 3 * sigmoid(logits) * (1 - sigmoid(logits))
        logits = adam(logits, slope, state, 0.1, step + 1)
    assert np.allclose(high[:, 0], best, atol=2e-4)
    assert len(set(best)) > 2


@pytest.mark.parametrize("name", CLIPPED)
def test_clipping_is_no_worse_than_its_start(name):
    weights, inputs = layer(2)
    weights[3] = 0
    width = family(name).code_width
    given = {"format": name, "group_size": 16, "scale_width": 16}
    options = {"weighting": "activation"} if "affine" not in name else {}
    start = quantize(
        weights,
        **given,
        method="minmax" if "affine" in name else "mse",
        options=options,
        calibration=inputs if options else None,
    )
    made = quantize(
        weights,
        **given,
        method="learned_clipping",
        calibration=inputs,
        options={"steps": 40, "damping": 1e-6},
    )
    before, after = output_errors(start, weights, inputs), output_errors(made, weights, inputs)
    # Scales are learned in float32 and stored in steps of 2^-16 of the largest.
    assert (after <= before * 1.02).all() or width > 6
    assert after.sum() <= before.sum() * 1.02
    assert not made.dequantize()[3].any()
    if width < 4:
        assert after.sum() < 0.95 * before.sum()


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_is_better_than_to_nearest(name):
    weights, inputs = layer(3)
    weights[5] = 0
    given = {"format": name, "group_size": 16, "method": "learned_rounding", "scale_width": 16}
    made = quantize(weights, **given, calibration=inputs, options={"steps": 150, "damping": 1e-6})
    nearest = nearest_codes(weights, made)
    before, after = (output_errors(item, weights, inputs) for item in (nearest, made))
    assert (after <= before * (1 + 1e-3)).all()
    assert after.sum() < 0.95 * before.sum()
    assert not made.dequantize()[5].any()
    assert (made.codes != nearest.codes).any()


def test_rounding_takes_neighbours_only():
    weights, inputs = layer(4, rows=4, columns=12)
    lower, upper = np.floor(weights), np.ceil(weights)
    hessian = damped_hessian(inputs, 0.01)
    taken = learn_rounding(weights, hessian, lower, upper, steps=150, rate=0.05, device="cpu")

    def loss(up):
        errors = np.where(up, upper, lower) - weights.astype(np.float64)
        return np.einsum("nk,kj,nj->n", errors, hessian, errors)

    choices = (np.arange(4096)[:, None] >> np.arange(12) & 1).astype(bool)
    best = np.min([loss(np.tile(choice, (4, 1))) for choice in choices], axis=0)
    nearest = loss(weights - lower > upper - weights)
    learned = loss(taken)
    assert (learned <= nearest * (1 + 1e-6)).all()
    assert (learned >= best * (1 - 1e-6)).all()
    # Most of what there is to gain is gained.
    assert (nearest - learned).sum() > 0.6 * (nearest - best).sum()


@pytest.mark.parametrize("method", ["learned_clipping", "learned_rounding"])
def test_same_result_each_time(method):
    weights, inputs = layer(5)
    made = [
        quantize(
            weights, format="int3", group_size=16, method=method, calibration=inputs,
            options={"steps": 20},
        )
        for _ in range(2)
    ]  # fmt: skip
    assert np.array_equal(made[0].codes, made[1].codes)
    assert np.array_equal(made[0].row_scales, made[1].row_scales)


def test_refusals(monkeypatch):
    weights, inputs = layer(6)
    given = {"format": "int3", "method": "learned_rounding", "calibration": inputs}
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no GPU; set the method's option 'device' to 'cpu'"):
        quantize(weights, **given, options={"device": "cuda"})
    with pytest.raises(ValueError, match="cannot quantise to format 'bcq2'"):
        quantize(weights, format="bcq2", method="learned_clipping", calibration=inputs)


def test_without_torch(monkeypatch):
    weights, inputs = layer(7)
    for name in [name for name in sys.modules if name.startswith("lutra.quant.learned.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "lutra.quant.learned")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"install it with `pip install 'lutra\[gpu\]'`"):
        quantize(weights, format="int3", method="learned_rounding", calibration=inputs)
