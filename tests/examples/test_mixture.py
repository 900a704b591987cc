"""Calibration and mixtures of ``examples/tinylm``."""

from pathlib import Path

import corpus
import numpy as np
import pytest
from calibrate import calibrate, calibration_windows
from gradient import layer_gradients
from mixture import bits_with_scales, measure, recipes
from safetensors.numpy import save_file

from lutra.quant import Mixture, load_recipe, quantize
from lutra.sim.model_dims import ModelDims, tensor_shapes
from lutra.sim.tiny_lm import TinyLM, load

FOLDER = Path(__file__).parents[2] / "examples" / "tinylm"
SMALL = ModelDims(
    hidden_size=24, intermediate_size=40, layer_count=2, head_count=3, context_length=16
)


@pytest.fixture(scope="module")
def lm() -> TinyLM:
    return load(FOLDER / "tinylm.safetensors")


@pytest.fixture(scope="module")
def calibration(lm, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "inputs.safetensors"
    save_file(calibrate(lm), path)
    return path


def test_gradients_against_differences():
    """Disturb each layer's output a little: the loss moves as the gradient says."""
    rng = np.random.default_rng(1)
    shapes = tensor_shapes(SMALL)
    small = TinyLM({name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}, dims=SMALL)
    tokens = rng.integers(0, 128, 12).astype(np.uint8)
    found = layer_gradients(small, tokens, np.random.default_rng(5))
    assert list(found) == small.linear_layers()
    # The characters that it drew: where the gradient of the logits is negative.
    drawn = found["lm_head"][1].argmin(axis=1)

    def loss(target, change):
        def product(name, x):
            return small.float_matmul(name, x) + (change if name == target else np.float32(0))

        logits = small.with_matmul(product).logits(tokens).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -log_p[np.arange(len(tokens)), drawn].sum()

    for name, (x, gradient) in found.items():
        assert gradient.dtype == x.dtype == np.float32
        step = 1e-2 * rng.standard_normal(gradient.shape).astype(np.float32)
        difference = (loss(name, step) - loss(name, -step)) / 2
        assert difference == pytest.approx(float((gradient * step).sum()), rel=0.03, abs=2e-4)


def test_calibration_is_training_text_only(lm):
    text = corpus.training_text()
    held_out = corpus.held_out_text()
    for window in calibration_windows(lm, 64):
        assert window.tobytes() in text
        assert window.tobytes() not in held_out


def test_calibration_has_every_layer(lm):
    found = calibrate(lm, windows=2, tokens=50)
    again = calibrate(lm, windows=2, tokens=50)
    for name in lm.linear_layers():
        rows, columns = lm.tensors[f"{name}.weight"].shape
        assert found[f"{name}.inputs"].shape == (50, columns)
        assert found[f"{name}.importance"].shape == (rows,)
        assert np.isfinite(found[f"{name}.inputs"]).all()
        assert (found[f"{name}.importance"] >= 0).all()
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_mixture_beats_uniform_at_equal_bits(lm, calibration, tmp_path):
    """Of each kind, the knapsack over groups and rows loses less than 3 bits for all."""
    text = corpus.held_out_text()
    for title, uniform, mixtures in recipes()[:3]:
        base = measure(lm, uniform, calibration, tmp_path, text, 40)
        assert base.code_bits == 3
        for label, recipe in mixtures:
            if "knapsack" not in label or "columns" in label:
                continue
            found = measure(lm, recipe, calibration, tmp_path, text, 40)
            assert found.code_bits <= 3
            assert found.loss < base.loss, (title, label)
            if "ids paid for" in label:
                assert found.all_bits <= base.all_bits


def test_recipe_file_is_that_of_the_table():
    recipe = load_recipe(FOLDER / "mixture.toml")
    assert isinstance(recipe, Mixture)
    assert recipe == recipes()[0][2][0][1]


def test_all_bits_are_counted():
    matrix = quantize(np.random.default_rng(1).standard_normal((3, 40)), format="bitmod3",
                      group_size=16)  # fmt: skip
    # Codes, nine groups with a scale of 9 bits and an id of 2, three row scales.
    assert bits_with_scales(matrix) == 3 * 120 + 9 * (9 + 2) + 3 * 32
