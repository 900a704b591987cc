import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lutra.formats import CATALOG, CODEBOOKS, ValueFormat
from lutra.gpu import Computation, Linear, PackedWeights, matmul, paths, self_test, sums
from lutra.sim import random_matrix

CPU, GPU = torch.device("cpu"), torch.device("cuda", 3)
LAYOUTS = [PackedWeights.dense, PackedWeights.words]


@pytest.fixture
def matrix():
    return random_matrix("bitmod4", 4, 300, 32, seed=1)


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that there is a GPU, on which nothing may really be computed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(self_test, "_faults", {})
    found = SimpleNamespace(words="", dense="", calls=[])

    def find_fault(matrix, device, product, derive, *, sums):
        found.calls.append((derive.__name__, device))
        return getattr(found, derive.__name__)

    monkeypatch.setattr(self_test, "find_fault", find_fault)
    return found


@pytest.mark.parametrize("derive", LAYOUTS)
def test_right_products_have_no_fault(matrix, derive):
    assert self_test.find_fault(matrix, CPU, matmul, derive) == ""


@pytest.mark.parametrize("name", [*CATALOG, *CODEBOOKS])
def test_every_format_has_its_layers(name):
    layers = self_test.adversarial_layers(random_matrix(name, 4, 50, 16, seed=1, scale_width=16))
    assert list(layers) == ["random weights", "all-extreme weights", "alternating weights"]
    weights = layers["all-extreme weights"].integer_weights()
    limit = layers["all-extreme weights"].scale_width
    assert np.abs(weights).max() >= (1 << limit) - 1


def planted(change):
    def product(x, weights, numerics):
        y = matmul(x, weights, numerics)
        change(x, y, numerics)
        return y

    return product


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x, y, n: y.view(torch.int8)[0, 0].bitwise_xor_(1), "random weights with float32"),
        (lambda x, y, n: y.nan_to_num_(1.0), "random weights with float32"),
        (lambda x, y, n: y.abs_() if len(x) > 8 else None, "random weights with float32"),
        (lambda x, y, n: y.abs_() if n.activation == "int8" else None, "weights with int8"),
        (lambda x, y, n: y.add_(0.0), "weights with float32"),  # loses the sign of zeros
    ],
)
def test_planted_faults_are_found(matrix, change, found):
    fault = self_test.find_fault(matrix, CPU, planted(change), PackedWeights.dense)
    assert found in fault
    assert "outputs have other bits" in fault


@pytest.mark.parametrize("part", range(3))
def test_wrong_sums_are_found(matrix, part):
    def wrong(x, weights, numerics):
        found = [item.clone() for item in sums(x, weights, numerics, check=False)]
        found[part].view(torch.int8).view(-1)[0] ^= 1
        return found[0], found[1], found[2]

    fault = self_test.find_fault(matrix, CPU, matmul, PackedWeights.dense, sums=wrong)
    assert fault.startswith("random weights with float32, sums of 1 tokens: 1 of ")


def test_wrong_weights_are_found(matrix):
    def derive(layer):
        packed = PackedWeights.words(layer)
        packed.tensors[4].view(-1)[7] ^= 1 << 9
        return packed

    fault = self_test.find_fault(matrix, CPU, matmul, derive)
    assert fault.startswith("random weights with float32, 1 tokens: ")


def test_failures_are_faults(matrix):
    def product(x, weights, numerics):
        raise MemoryError("too large a tile")

    fault = self_test.find_fault(matrix, CPU, product, PackedWeights.words)
    assert fault == "random weights with float32, 1 tokens: MemoryError: too large a tile"


def test_a_good_device_is_asked_once_for_each_set_of_formats(matrix, gpu):
    pytest.importorskip("triton", reason="needs triton")
    for item in (matrix, matrix, random_matrix("bitmod4", 9, 64, 32, seed=2)):
        assert paths.why_not_fast(item, GPU) == ""
    assert gpu.calls == [("words", GPU)]
    assert paths.why_not_fast(random_matrix("int4", 9, 64, 32, seed=2), GPU) == ""
    assert len(gpu.calls) == 2


def test_a_bad_device_is_named_and_the_fallback_tested(matrix, gpu):
    pytest.importorskip("triton", reason="needs triton")
    gpu.words = "bits differ"
    with pytest.warns(RuntimeWarning, match=r"failed their self-test on Card 3 \(cuda:3\): bits"):
        reason = paths.why_not_fast(matrix, GPU)
    assert reason == "the self-test failed on Card 3 (cuda:3): bits differ"
    assert paths.why_not_fast(matrix, GPU) == reason  # and warns no more
    assert gpu.calls == [("words", GPU), ("dense", GPU)]


def test_a_hopeless_device_is_refused(matrix, gpu):
    pytest.importorskip("triton", reason="needs triton")
    gpu.words = gpu.dense = "bits differ"
    with (
        pytest.warns(RuntimeWarning, match="self-test"),
        pytest.raises(RuntimeError, match=r"^Float64 products are wrong on Card 3"),
    ):
        paths.why_not_fast(matrix, GPU)


def test_without_triton(matrix, gpu, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "triton" else real(name)
    )
    assert paths.why_not_fast(matrix, GPU) == "triton is not installed"
    assert gpu.calls == [("dense", GPU)]


def test_formats_without_packed_layout(gpu):
    odd = ValueFormat("odd5", 5, values=(*range(31), 99))
    matrix = random_matrix([odd], 4, 20, 8, seed=1)
    pytest.importorskip("triton", reason="needs triton")
    assert paths.why_not_fast(matrix, GPU) == "odd5 has a table of more than 16 values"


def test_devices_that_are_not_there(matrix, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for make in (Linear, lambda item, device: Computation(item, Linear(item).numerics, device)):
        with pytest.raises(ValueError, match=r"^There is no cuda:3: PyTorch .* finds no GPU; use"):
            make(matrix, device="cuda:3")
    with pytest.raises(ValueError, match=r"^Layers are computed on cpu or cuda, not on mps$"):
        Linear(matrix, device="mps")
