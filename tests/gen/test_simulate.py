from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import Numerics
from lutra.gen import LayerComparison, compare_layer, random_tokens, summarize
from lutra.gen.backend import BackendRun
from lutra.gen.differences import count_mismatches
from lutra.quant import quantize

KEYS = [
    "bit_exact",
    "mismatches",
    "outputs",
    "cycles",
    "predicted_cycles",
    "cycles_as_predicted",
    "useful_cycles",
    "utilisation",
    "bits_per_weight",
    "seconds",
    "sim",
    "format",
    "layers",
]


def comparison(**changes):
    fields = {
        "layer": "a",
        "format": "int4",
        "rows": 4,
        "columns": 10,
        "tokens": 3,
        "outputs": 12,
        "mismatches": 0,
        "cycles": 200,
        "predicted_cycles": 200,
        "useful_cycles": 100.0,
        "stream_bits": 240,
        "seconds": 0.5,
    }
    return LayerComparison(**(fields | changes))


def test_sums():
    other = comparison(
        layer="b", format="int4+bitmod4", rows=2, outputs=6, cycles=100, useful_cycles=80.0
    )
    other = replace(other, predicted_cycles=100)
    report = summarize([comparison(), other], sim="verilator")
    assert list(report) == KEYS
    assert report["bit_exact"] is True
    assert report["mismatches"] == 0
    assert report["outputs"] == 18
    assert report["cycles"] == report["predicted_cycles"] == 300
    assert report["cycles_as_predicted"] is True
    assert report["useful_cycles"] == 180.0
    assert report["utilisation"] == 0.6
    assert report["bits_per_weight"] == 480 / 60
    assert report["seconds"] == 1.0
    assert report["sim"] == "verilator"
    assert report["format"] == "int4+bitmod4"
    assert [layer["layer"] for layer in report["layers"]] == ["a", "b"]
    assert report["layers"][1]["utilisation"] == 0.8
    assert report["layers"][0]["bits_per_weight"] == 6.0


def test_one_mismatch_is_enough():
    report = summarize([comparison(), comparison(mismatches=1)], sim="amaranth")
    assert report["bit_exact"] is False
    assert report["mismatches"] == 1


def test_one_other_cycle_is_enough():
    report = summarize([comparison(), comparison(cycles=201)], sim="amaranth")
    assert report["bit_exact"] is True
    assert report["cycles_as_predicted"] is False


def test_without_a_clock():
    report = summarize([comparison(cycles=None), comparison(cycles=None)], sim="numpy")
    assert report["cycles"] is None
    assert report["cycles_as_predicted"] is None
    assert report["utilisation"] is None
    assert report["useful_cycles"] == 200.0
    assert report["layers"][0]["utilisation"] is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_every_bit_counts(dtype):
    wanted = np.arange(6, dtype=dtype).reshape(2, 3)
    assert count_mismatches(wanted.copy(), wanted) == 0
    for bit in range(8 * wanted.itemsize):
        got = wanted.copy()
        got.view(f"u{wanted.itemsize}")[1, 1] ^= 1 << bit
        assert count_mismatches(got, wanted) == 1
    assert count_mismatches(-np.zeros((2, 3), dtype), np.zeros((2, 3), dtype)) == 6
    nothing = np.full((2, 3), np.nan, dtype)
    assert count_mismatches(nothing.copy(), nothing) == 0


def test_sums_and_exponents_count():
    sums, exponents = np.arange(6).reshape(2, 3), np.array([1, 2])
    assert count_mismatches((sums.copy(), exponents.copy()), (sums, exponents)) == 0
    other = sums.copy()
    other[1, 2] ^= 1
    assert count_mismatches((other, exponents), (sums, exponents)) == 1
    # An exponent stands for all outputs of its token.
    assert count_mismatches((sums, np.array([1, 3])), (sums, exponents)) == 3


@pytest.mark.parametrize("activation", ["int8", "float16", "bfloat16", "float32"])
def test_random_tokens(activation):
    width = 8 if activation == "int8" else 16
    numerics = Numerics(activation=activation, act_width=width)
    x = random_tokens(numerics, 5, 400, seed=3)
    assert x.shape == (5, 400)
    assert x.dtype.name == activation
    assert np.array_equal(x, random_tokens(numerics, 5, 400, seed=3))
    assert not np.array_equal(x, random_tokens(numerics, 5, 400, seed=4))
    values = x.astype(np.float64)
    assert np.isfinite(values).all()
    assert values.min() < 0 < values.max()


@pytest.mark.parametrize("name", ["int4", "bitmod3", "bcq2", "int3_asym"])
def test_formats_go_by_the_name_that_users_know(name, mini):
    config = mini.replace({"stream.formats": f"int8,{name}"})
    matrix = quantize(np.random.default_rng(1).standard_normal((4, 32)), format=name, group_size=16)

    class Silent:
        def run(self, matrix, x, *, packed=None):
            return BackendRun(np.zeros((len(x), matrix.rows), np.float32), 1)

    x = random_tokens(config.parameters.numerics, 2, 32, seed=1)
    compared = compare_layer("l", matrix, x, config=config, backend=Silent())
    assert compared.format == name
    assert compared.mismatches == 8
