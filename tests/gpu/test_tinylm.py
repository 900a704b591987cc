"""The small language model through :func:`patch`: logits equal to the golden model's, every bit."""

from pathlib import Path

import numpy as np
import pytest
from torch_model import TorchTinyLM

from lutra.formats import Numerics
from lutra.gpu import patch
from lutra.quant import Recipe, quantize_file
from lutra.sim import GoldenModel
from lutra.sim.tiny_lm import load

TINYLM = Path(__file__).parents[2] / "examples" / "tinylm"
CHECKPOINT = TINYLM / "tinylm.safetensors"
TEXT = b"class Parser:\n    def __init__(self, tokens):\n        self."

RECIPES = {
    "bitmod4": Recipe(format="bitmod4", group_size=128),
    "bcq3_asym": Recipe(format="bcq3_asym", group_size=32),
}


@pytest.mark.parametrize("name", RECIPES)
def test_logits_equal_golden(name, tmp_path):
    file = quantize_file(CHECKPOINT, tmp_path / "model.safetensors", RECIPES[name])
    lm = load(CHECKPOINT)
    model = TorchTinyLM(lm)
    tokens = np.frombuffer(TEXT, np.uint8)
    assert np.allclose(model(tokens), lm.logits(tokens), atol=1e-3)  # float, another summation

    numerics = Numerics(activation="float16", act_width=16)
    report = patch(model, file, numerics, cast=True)
    assert set(report.replaced) == set(lm.linear_layers()) == set(file.layers)
    assert not report.skipped
    assert not report.unused
    golden = {item: GoldenModel(file.layer(item), numerics) for item in file.layers}

    def product(layer, x):
        return golden[layer].run(x.astype(np.float16))

    expected = lm.with_matmul(product).logits(tokens)
    assert np.array_equal(model(tokens).view(np.uint32), expected.view(np.uint32))
