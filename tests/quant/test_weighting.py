"""Squared errors weighted by activations, against searches written out."""

import numpy as np
import pytest

from lutra.formats import BinaryCodingFormat, ValueFormat, family
from lutra.quant import LayerCalibration, quantize
from lutra.quant.column_factors import column_factors
from lutra.quant.sign_search import SignSearch


def layer(seed, rows=7, columns=40, tokens=30):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((tokens, columns)) * np.exp(rng.standard_normal(columns))
    return rng.standard_normal((rows, columns)).astype(np.float32), inputs.astype(np.float32)


@pytest.mark.parametrize("name", ["int3", "bitmod3", "float4_e2m1"])
def test_clipping_minimises_the_weighted_error(name):
    weights, inputs = layer(1)
    made = quantize(
        weights,
        format=name,
        group_size=16,
        method="mse",
        scale_width=16,
        options={"weighting": "activation"},
        calibration=inputs,
    )
    squares = (inputs.astype(np.float64) ** 2).mean(axis=0)
    for n in range(7):
        for g, start in enumerate((0, 16, 32)):
            w, f = weights[n, start : start + 16], squares[start : start + 16]
            tried = []
            for index, item in enumerate(family(name).members):
                assert isinstance(item, ValueFormat)
                codes = [c for c in range(len(item.values)) if c not in item.unused]
                values = np.unique([item.values[c] for c in codes]).astype(np.float64)
                full = np.float32(np.abs(w).max() / np.abs(values).max())
                for step in range(50, 9, -1):
                    delta = full * np.float32(step / 50)
                    ranks = ((w / delta)[:, None] > (values[:-1] + values[1:]) / 2).sum(axis=1)
                    error = (f * (values[ranks] * np.float64(delta) - w) ** 2).sum()
                    tried.append((error, index, delta))
            _, index, delta = min(tried, key=lambda item: item[0])
            assert made.format_ids[n, g] == index
            found = made.scales[n, g, 0] * np.float64(made.row_scales[n])
            assert found == pytest.approx(delta, abs=float(np.abs(w).max()) / 2**16)


@pytest.mark.parametrize("name", ["bcq1", "bcq2_asym", "bcq3"])
def test_scales_of_signs_are_weighted_least_squares(name):
    weights, inputs = layer(2, rows=12, columns=64)
    item = family(name).members[0]
    assert isinstance(item, BinaryCodingFormat)
    factors = np.tile((inputs.astype(np.float64) ** 2).mean(axis=0)[:, None], (1, 12))
    columns = np.ascontiguousarray(weights.T)
    start = SignSearch(item, rounds=0)(columns, factors)
    fitted = SignSearch(item, rounds=1)(columns, factors).scales
    planes = item.code_width
    for n in range(12):
        signs = 2.0 * (start.codes[:, n, None] >> np.arange(planes) & 1) - 1
        if item.offset:
            signs = np.hstack([signs, np.ones((64, 1))])
        root = np.sqrt(factors[:, n])
        wanted = np.linalg.lstsq(signs * root[:, None], columns[:, n] * root, rcond=None)[0]
        wanted[:planes] = -np.sort(-np.abs(wanted[:planes]))
        assert np.allclose(fitted[:, n], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bcq1", "bcq2", "bcq3_asym"])
def test_greedy_means_are_weighted(name):
    weights, inputs = layer(3)
    item = family(name).members[0]
    assert isinstance(item, BinaryCodingFormat)
    f = (inputs.astype(np.float64) ** 2).mean(axis=0)
    columns = np.ascontiguousarray(weights.T)
    made = SignSearch(item, rounds=0)(columns, np.tile(f[:, None], (1, 7)))
    for n in range(7):
        rest = columns[:, n].astype(np.float64)
        if item.offset:
            offset = (f * rest).sum() / f.sum()
            assert made.scales[-1, n] == pytest.approx(offset, rel=1e-6)
            rest = rest - offset
        for plane in range(item.code_width):
            scale = (f * np.abs(rest)).sum() / f.sum()
            assert made.scales[plane, n] == pytest.approx(scale, rel=1e-6)
            rest = rest - np.where(rest >= 0, scale, -scale)


def test_equal_factors_change_nothing():
    weights, _ = layer(4)
    columns = np.ascontiguousarray(weights.T)
    for name in ("bcq2_asym", "bcq3"):
        item = family(name).members[0]
        plain = SignSearch(item, rounds=15)(columns)
        same = SignSearch(item, rounds=15)(columns, np.ones(columns.shape))
        assert np.array_equal(plain.codes, same.codes)


@pytest.mark.parametrize("rounds", [0, 3])
def test_rounds_of_signs(rounds):
    weights, _ = layer(5)
    made = quantize(
        weights, format="bcq2", group_size=16, method="alternating", options={"rounds": rounds}
    )
    if rounds == 0:
        assert np.array_equal(
            made.codes, quantize(weights, format="bcq2", group_size=16, method="greedy").codes
        )


def test_silent_inputs_still_count_a_little():
    inputs = np.ones((4, 3), np.float32)
    inputs[:, 1] = 0
    known = LayerCalibration(inputs=inputs, importance=np.ones(1))
    found = column_factors("activation", known)
    assert found is not None
    assert found.tolist() == [1, pytest.approx(2e-6 / 3), 1]
    zero = LayerCalibration(inputs=0 * inputs, importance=np.ones(1))
    silent = column_factors("activation", zero)
    assert silent is not None
    assert silent.tolist() == [1, 1, 1]
    assert column_factors("none", None) is None
