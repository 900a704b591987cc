"""The twins as back ends: PyTorch, and Triton's kernels interpreted in a process of their own."""

import importlib.util
import os
import signal
import sys
import threading

import numpy as np
import pytest

from lutra.formats import Numerics, QuantizedMatrix, ValueFormat
from lutra.gen import (
    EngineError,
    backend_torch,
    compare_layer,
    make_backend,
    random_tokens,
)
from lutra.sim import adversarial_tokens, nonfinite_tokens
from lutra.sim.verilator import ToolError

PACKAGES = {"torch": ("torch",), "triton": ("torch", "triton")}
TWINS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(package) is None for package in packages),
            reason="needs the extra 'gpu'",
        ),
    )
    for name, packages in PACKAGES.items()
]


@pytest.mark.parametrize("name", TWINS)
def test_every_token(name, mini, backend, layer):
    """Adversarial ones, and those that are not finite."""
    numerics = mini.parameters.numerics
    tokens = adversarial_tokens(numerics, layer.columns, seed=1)
    tokens |= nonfinite_tokens(numerics, layer.columns)
    x = np.stack(list(tokens.values()))
    compared = compare_layer("l", layer, x, config=mini, backend=backend(name))
    assert compared.mismatches == 0
    assert compared.outputs == len(x) * 7
    assert compared.cycles is None


@pytest.mark.parametrize("name", TWINS)
def test_integer_outputs(name, mini, layer):
    config = mini.replace({"numerics.output": "int"})
    x = random_tokens(config.parameters.numerics, 3, layer.columns, seed=5)
    made = make_backend(name, config)
    assert compare_layer("l", layer, x, config=config, backend=made).mismatches == 0


@pytest.mark.parametrize("name", TWINS)
def test_this_process_is_left_alone(name, mini, layer, backend):
    """Triton is interpreted, if at all, in another process."""
    x = random_tokens(mini.parameters.numerics, 1, layer.columns, seed=5)
    backend(name).run(layer, x)
    assert "TRITON_INTERPRET" not in os.environ
    if "triton" in sys.modules:
        assert not sys.modules["triton"].knobs.runtime.interpret


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package(name, mini, monkeypatch):
    monkeypatch.setattr(backend_torch, "find_spec", lambda name: None)
    wanted = "The package torch is not installed; install it with pip install 'lutra[gpu]'"
    with pytest.raises(ToolError) as caught:
        make_backend(name, mini)
    assert str(caught.value) == wanted


@pytest.mark.parametrize("name", TWINS[1:])
def test_a_layer_that_no_kernel_takes(name, mini, backend):
    odd = ValueFormat("odd5", 5, values=(*range(31), 99))
    matrix = QuantizedMatrix(
        members=(odd,),
        group_size=16,
        codes=np.zeros((2, 16), dtype=np.uint8),
        format_ids=np.zeros((2, 1), dtype=np.uint8),
        scales=np.ones((2, 1, 1), dtype=np.int32),
        zeros=np.zeros((2, 1), dtype=np.uint8),
        row_scales=np.ones(2, dtype=np.float32),
        scale_width=8,
    )
    x = random_tokens(Numerics(), 1, 16, seed=1)
    with pytest.raises(EngineError, match=r"^The kernels do not take the layer: "):
        backend(name).run(matrix, x)


@pytest.mark.parametrize("name", TWINS[1:])
def test_an_interpreter_that_is_killed(name, mini, layer, backend):
    """While it computes and while it waits; the next run has another."""
    made = backend(name)
    if made._interpreter is None:
        pytest.skip("nothing is interpreted where there is a GPU")
    x = random_tokens(mini.parameters.numerics, 1, layer.columns, seed=5)
    expected = made.run(layer, x).outputs
    for is_busy in (True, False):
        (process,) = made._interpreter._processes.values()
        if is_busy:
            os.kill(process.pid, signal.SIGSTOP)  # never done before it is killed
            threading.Timer(0.5, process.kill).start()
        else:
            process.kill()
            process.join()
        with pytest.raises(EngineError, match=r"^Triton's interpreter ended before it was done; "):
            made.run(layer, x)
        assert np.array_equal(made.run(layer, x).outputs, expected)
