import contextlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import Outliers, pack
from lutra.gen import (
    BACKENDS,
    EngineError,
    backend_amaranth,
    compare_layer,
    make_backend,
    random_tokens,
)
from lutra.sim import ProtocolError
from lutra.sim.amaranth_driver import StreamTimeoutError

HARDWARE = [
    "verilator",
    "amaranth",
    pytest.param(
        "icarus",
        marks=pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog"),
    ),
]


class Inverted:
    """A back end whose outputs have one wrong bit."""

    def __init__(self, inner, index=0, bit=0):
        self._inner, self._index, self._mask = inner, index, 1 << bit

    def run(self, matrix, x, *, packed=None):
        """Run the other one and invert a bit."""
        run = self._inner.run(matrix, x, packed=packed)
        outputs = run.outputs.copy()
        outputs.view(f"u{outputs.itemsize}").reshape(-1)[self._index] ^= self._mask
        return replace(run, outputs=outputs)


def tokens(mini, layer, count=3):
    return random_tokens(mini.parameters.numerics, count, layer.columns, seed=5)


@pytest.mark.parametrize("name", HARDWARE)
def test_hardware_is_bit_exact(name, mini, backend, layer):
    x = tokens(mini, layer)
    compared = compare_layer("l", layer, x, config=mini, backend=backend(name))
    assert compared.mismatches == 0
    assert compared.outputs == 3 * 7
    assert compared.cycles
    assert compared.cycles > compared.useful_cycles > 0
    assert compared.utilisation == compared.useful_cycles / compared.cycles
    assert (compared.layer, compared.format) == ("l", "bitmod3")
    assert (compared.rows, compared.columns, compared.tokens) == (7, 40, 3)
    assert compared.bits_per_weight == pack(layer, mini.parameters.layout).bits / (7 * 40)


def test_simulators_agree_on_the_cycles(mini, backend, layer):
    x = tokens(mini, layer)
    cycles = {name: backend(name).run(layer, x).cycles for name in ("verilator", "amaranth")}
    assert cycles["verilator"] == cycles["amaranth"]


def test_the_golden_model_has_no_clock(mini, backend, layer):
    compared = compare_layer("l", layer, tokens(mini, layer), config=mini, backend=backend("numpy"))
    assert compared.mismatches == 0
    assert compared.cycles is None
    assert compared.utilisation is None


@pytest.mark.parametrize("name", ["verilator", "amaranth", "numpy"])
@pytest.mark.parametrize(("index", "bit"), [(0, 0), (20, 31), (7, 12)])
def test_one_wrong_bit_is_found(name, index, bit, mini, backend, layer):
    faulty = Inverted(backend(name), index, bit)
    x = tokens(mini, layer)
    assert compare_layer("l", layer, x, config=mini, backend=faulty).mismatches == 1


@pytest.mark.parametrize("name", ["verilator", "amaranth"])
def test_another_weight_is_found(name, mini, backend, layer):
    codes = layer.codes.copy()
    codes[3, 17] ^= 1
    other = pack(replace(layer, codes=codes), mini.parameters.layout)
    x = tokens(mini, layer)
    compared = compare_layer("l", layer, x, config=mini, backend=backend(name), packed=other)
    # One row of every token differs, unless an activation is so small as to vanish.
    assert compared.mismatches == 3


@pytest.mark.parametrize("name", ["verilator", "amaranth"])
def test_a_damaged_stream_is_an_error(name, mini, backend, layer):
    good = pack(layer, mini.parameters.layout)
    beats = good.beats.copy()
    beats[-2, 0] ^= 1
    with pytest.raises(EngineError, match=r"^The engine stopped with error CRC after \d+ cycles$"):
        backend(name).run(layer, tokens(mini, layer), packed=replace(good, beats=beats))
    # And the next layer is none the worse for it.
    x = tokens(mini, layer)
    assert compare_layer("l", layer, x, config=mini, backend=backend(name)).mismatches == 0


@pytest.mark.parametrize("name", ["verilator", "amaranth"])
def test_a_stream_that_ends_early_is_an_error(name, mini, backend, layer):
    good = pack(layer, mini.parameters.layout)
    short = replace(good, beats=good.beats[:-3])
    with pytest.raises(EngineError, match=r"stopped with error LENGTH|^Only \d+ of 21 output beat"):
        backend(name).run(layer, tokens(mini, layer), packed=short)


@pytest.mark.parametrize("error", [ProtocolError("Stream o dropped"), StreamTimeoutError("Only 3")])
def test_what_the_driver_finds_is_an_engine_s_error(error, mini, layer, monkeypatch):
    real = backend_amaranth.simulate_streams

    def fail(*arguments, **options):
        with contextlib.suppress(StreamTimeoutError):
            real(*arguments, **(options | {"max_cycles": 1}))
        raise error

    monkeypatch.setattr(backend_amaranth, "simulate_streams", fail)
    with pytest.raises(EngineError, match=f"^{error}$"):
        make_backend("amaranth", mini).run(layer, tokens(mini, layer))


def test_broken_handshakes_are_an_engine_s_error(mini, backend, layer, monkeypatch):
    verilator = backend("verilator")
    real = verilator._emulator.run
    monkeypatch.setattr(
        verilator._emulator,
        "run",
        lambda *arguments, **options: replace(real(*arguments, **options), broken_handshakes=1),
    )
    with pytest.raises(EngineError, match=r"^Stream o broke the rules of its handshake$"):
        verilator.run(layer, tokens(mini, layer))


def test_misplaced_last_is_an_engine_s_error(mini, backend, layer, monkeypatch):
    verilator = backend("verilator")
    real = verilator._emulator.run

    def without_last(*arguments, **options):
        run = real(*arguments, **options)
        outputs = run.outputs.copy()
        outputs[:, -1] = 0
        return replace(run, outputs=outputs)

    monkeypatch.setattr(verilator._emulator, "run", without_last)
    with pytest.raises(EngineError, match=r"^The output stream must mark every"):
        verilator.run(layer, tokens(mini, layer))


def test_integer_outputs(mini, layer):
    config = mini.replace({"numerics.output": "int", "stream.output_lanes": "2"})
    amaranth = make_backend("amaranth", config)
    x = tokens(config, layer)
    assert compare_layer("l", layer, x, config=config, backend=amaranth).mismatches == 0


def test_unknown_back_ends(mini):
    names = ["verilator", "icarus", "amaranth", "numpy", "torch", "triton"]
    names += ["netlist", "netlist-xc7"]
    wanted = f"^Unknown back end 'x'; known back ends: {', '.join(names)}$"
    with pytest.raises(ValueError, match=wanted):
        make_backend("x", mini)
    assert list(BACKENDS) == names


def test_a_layer_that_does_not_fit(mini, layer):
    big = replace(
        layer,
        codes=np.repeat(layer.codes, 3, axis=0),
        **{
            name: np.repeat(getattr(layer, name), 3, axis=0)
            for name in ("format_ids", "scales", "zeros", "row_scales")
        },
    )
    with pytest.raises(ValueError, match=r"^A layer of 21 x 40 is larger than the configuration's"):
        make_backend("amaranth", mini).run(big, tokens(mini, big))


@pytest.mark.parametrize("name", ["verilator", "amaranth", "torch"])
def test_columns_in_another_order(name, mini, backend, layer):
    """Tokens are arranged for the codes: as if the weights had been put back into order."""
    order = np.random.default_rng(3).permutation(layer.columns).astype(np.int32)
    ordered = replace(layer, column_order=order)
    x = tokens(mini, layer)
    run = backend(name).run(ordered, x)
    plain = backend("numpy").run(layer, np.ascontiguousarray(x[:, order]))
    assert np.array_equal(run.outputs.view("u4"), plain.outputs.view("u4"))
    assert not np.array_equal(plain.outputs, backend("numpy").run(layer, x).outputs)


def test_outliers_are_refused_by_engines(mini, backend, layer):
    dense = np.zeros(layer.codes.shape, dtype=np.int64)
    dense[2, [5, 17]] = 1000, -70
    with_outliers = replace(layer, outliers=Outliers.of(dense))
    x = tokens(mini, layer)
    with pytest.raises(ValueError, match="no path for the 2 outliers of a layer; the golden model"):
        backend("verilator").run(with_outliers, x)
    golden = backend("numpy").run(with_outliers, x).outputs
    assert np.array_equal(
        golden.view("u4"), backend("torch").run(with_outliers, x).outputs.view("u4")
    )
    assert not np.array_equal(golden, backend("numpy").run(layer, x).outputs)
