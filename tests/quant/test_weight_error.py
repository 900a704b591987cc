"""Signal and noise of quantised weights."""

import math

import numpy as np
import pytest

from lutra.quant import WeightError, quantize, weight_error


def test_by_hand():
    weights = np.array([[1.0, 0.25, -0.5, 0.0]], np.float32)
    quantised = quantize(weights, format="ternary", group_size=4)
    assert quantised.dequantize().tolist() == [[1, 0, -1, 0]]
    found = weight_error(weights, quantised)
    assert found == WeightError(1 + 1 / 16 + 1 / 4, 1 / 16 + 1 / 4)
    assert found.sqnr_db == 10 * math.log10(21 / 5)


def test_exact_weights_have_no_noise():
    weights = np.array([[1.0, -2.0, 7.0, 0.0]], np.float32)
    found = weight_error(weights, quantize(weights, format="int4", group_size=4))
    assert found == WeightError(54.0, 0.0)
    assert found.sqnr_db == math.inf


def test_layers_add_up():
    total = sum([WeightError(3.0, 1.0), WeightError(97.0, 0.0)], WeightError())
    assert total == WeightError(100.0, 1.0)
    assert total.sqnr_db == 20.0
    assert WeightError(0.0, 1.0).sqnr_db == -math.inf


def test_more_bits_less_noise():
    weights = np.random.default_rng(1).standard_normal((9, 70)).astype(np.float32)
    found = [
        weight_error(weights, quantize(weights, format=f"int{bits}", group_size=32)).sqnr_db
        for bits in range(2, 9)
    ]
    assert found == sorted(found)


def test_other_shapes_are_refused():
    quantised = quantize(np.ones((2, 8)), format="int4", group_size=8)
    message = r"^Quantised weights must have shape \(2, 9\) like the checkpoint's, not \(2, 8\)$"
    with pytest.raises(ValueError, match=message):
        weight_error(np.ones((2, 9), np.float32), quantised)
