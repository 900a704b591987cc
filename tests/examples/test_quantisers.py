"""Quantisers on the small language model: what they promise shows in its loss."""

from pathlib import Path

import corpus
import numpy as np
import pytest
from calibrate import calibrate
from mixture import bits_with_scales, measure
from quantisers import recipes
from safetensors.numpy import save_file

from lutra.quant import quantize
from lutra.sim.tiny_lm import load

FOLDER = Path(__file__).parents[2] / "examples" / "tinylm"
WINDOWS = 24


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    lm, folder = load(FOLDER / "tinylm.safetensors"), tmp_path_factory.mktemp("quantisers")
    calibration = folder / "inputs.safetensors"
    save_file(calibrate(lm), calibration)
    text = corpus.held_out_text()

    def of(name: str, *labels: str) -> list[float]:
        chosen = dict(recipes()[name])
        return [
            measure(lm, chosen[label], calibration, folder, text, WINDOWS).loss for label in labels
        ]

    return of


@pytest.mark.parametrize(("name", "gain"), [("int3", 0.03), ("int2", 0.5)])
def test_error_feedback_lowers_the_loss(losses, name, gain):
    nearest, clipped, fed_back = losses(name, "nearest", "clipped", "GPTQ")
    assert fed_back < nearest - gain
    assert fed_back < clipped - gain / 4


@pytest.mark.parametrize("name", [pytest.param("free3", marks=pytest.mark.slow), "free2"])
def test_sparse_weights_beside_a_codebook_lower_the_loss(losses, name):
    plain, weighted, sparse = losses(
        name, "k-means", "k-means, weighted", "the same, 0.45 % sparse"
    )
    assert sparse < weighted < plain


def test_weighted_signs_lower_the_loss(losses):
    plain, weighted = losses("bcq2_asym", "alternating", "alternating, weighted")
    assert weighted < plain - 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gain"), [("int3", 0.02), ("int2", 0.3)])
def test_learning_lowers_the_loss(losses, name, gain):
    nearest, clipping, rounding = losses(name, "nearest", "learned clipping", "learned rounding")
    assert clipping < nearest - gain
    assert rounding < nearest - gain


def test_bits_of_sparse_weights_count():
    weights = np.random.default_rng(1).standard_normal((4, 32))
    chosen = {"format": "free2", "group_size": "row", "scale_width": 16}
    dense = quantize(weights, **chosen)
    sparse = quantize(weights, **chosen, options={"outliers": 0.0625})
    assert bits_with_scales(sparse) == bits_with_scales(dense) + 8 * 32
