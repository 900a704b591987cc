"""Every format, by every quantiser that serves it, on every engine: the golden model's bits.

All of it takes minutes and is slow; the first few families of each engine are not.
"""

import numpy as np
import pytest

from lutra.formats import CATALOG, family
from lutra.gen import PRESETS, make_backend, random_tokens
from lutra.quant import METHODS, Recipe, quantize
from lutra.quant.calibration import LayerCalibration
from lutra.sim import GoldenModel

ENGINES = ("lut", "term", "mac")
SHAPE, GROUP_SIZE, TOKENS = (10, 43), 16, 3
SETTINGS = {
    "name": "conformance",
    "stream.lanes": "4",
    "stream.width": "8",
    "stream.tile_slices": "2",
    "stream.group_sizes": str(GROUP_SIZE),
    "stream.max_rows": "16",
    "stream.max_columns": "48",
    "numerics.activation": "float16",
    "numerics.act_width": "8",
    "datapath.act_lanes": "4",
}
PER_ENGINE = 6
# Integers of 5 exponent bits leave room for narrow scales only in a sum of 63 bits.
WIDE = [name for name in CATALOG if "_e5m" in name]
USUAL = [name for name in CATALOG if name not in WIDE]
BATCHES = [
    names[first : first + PER_ENGINE]
    for names in (USUAL, WIDE)
    for first in range(0, len(names), PER_ENGINE)
]
# A slow test unless it is the first: formats of the others are in tests/hdl, one by one.
CASES = [
    pytest.param(engine, batch, marks=pytest.mark.slow if index else (), id=f"{engine}-{batch[0]}")
    for engine in ENGINES
    for index, batch in enumerate(BATCHES)
]


def scale_width(name):
    """Bits of scales that an engine of these settings has room for."""
    return 8 if name in WIDE else 18


def methods(name):
    """Names of the quantisers that serve a family."""
    return [method.name for method in METHODS.values() if method.serves(family(name))]


def layers(name, seed):
    """Quantise one matrix by every method that serves a family."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(SHAPE).astype(np.float32)
    inputs = rng.standard_normal((64, SHAPE[1])).astype(np.float32)
    calibration = LayerCalibration(inputs=inputs, importance=np.ones(1))
    for method in methods(name):
        known = calibration if METHODS[method].calibrated else None
        yield (
            method,
            quantize(weights, format=name, group_size=GROUP_SIZE, method=method, calibration=known),
        )


def compare(name, engine, backend, config, record):
    """Compare a family's layers with the golden model; return the cells that differ."""
    wrong = []
    for method, matrix in layers(name, seed=sorted(CATALOG).index(name)):
        x = random_tokens(config.parameters.numerics, TOKENS, SHAPE[1], seed=3)
        golden = GoldenModel(matrix, config.parameters.numerics).run(x, nonfinite="nan")
        try:
            outputs = backend.run(matrix, x).outputs
        except ValueError as error:
            record(name, method, engine, 0, 0, error)
            continue
        kind = f"u{golden.itemsize}"
        differing = int((outputs.view(kind) != golden.view(kind)).sum())
        record(name, method, engine, golden.size, differing, "")
        if differing:
            wrong.append((name, method, differing))
    return wrong


def config_for(engine, names):
    """Return the configuration of an engine that decodes some families."""
    width = str(min(map(scale_width, names)))
    changes = {"engine": engine, "stream.formats": ",".join(names), "stream.scale_width": width}
    return PRESETS["tiny"].replace({**SETTINGS, **changes})


@pytest.mark.parametrize(("engine", "names"), CASES)
def test_engine(engine, names, record_cell):
    config = config_for(engine, names)
    backend = make_backend("verilator", config)
    for name in names:
        assert not compare(name, engine, backend, config, record_cell)


@pytest.mark.parametrize("name", CATALOG)
def test_torch(name, record_cell):
    pytest.importorskip("torch", reason="needs PyTorch: pip install 'lutra[gpu]'")
    config = config_for("lut", [name])
    backend = make_backend("torch", config)
    assert not compare(name, "torch", backend, config, record_cell)


def test_every_quantiser_serves_a_format():
    served = {method for name in CATALOG for method in methods(name)}
    assert served == set(METHODS)
    assert all(methods(name) for name in CATALOG)


def test_recipes_take_every_pair():
    for name in CATALOG:
        for method in methods(name):
            assert Recipe(format=name, method=method).method == method
