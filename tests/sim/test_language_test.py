"""Loss and divergence of a language model with other products."""

import numpy as np
import pytest

from lutra.sim import LanguageTest, ModelDims, TinyLM
from lutra.sim.model_dims import tensor_shapes

DIMS = ModelDims(
    vocab_size=20,
    hidden_size=12,
    intermediate_size=20,
    layer_count=1,
    head_count=3,
    context_length=8,
)
TEXT = bytes(np.random.default_rng(3).integers(0, 20, 60).tolist())


@pytest.fixture
def model() -> TinyLM:
    rng = np.random.default_rng(1)
    shapes = tensor_shapes(DIMS)
    return TinyLM({name: rng.normal(0, 0.5, shape) for name, shape in shapes.items()}, dims=DIMS)


def coarse(model):
    def product(name, x):
        weights = np.round(model.tensors[f"{name}.weight"] * 2) / np.float32(2)
        return x @ weights.T

    return product


def test_the_reference_is_the_model_s_perplexity(model):
    for count in (None, 3):
        reference = LanguageTest(model, TEXT, count).reference
        assert reference.perplexity == pytest.approx(model.perplexity(TEXT, window_count=count))
        assert reference.windows == (count or 7)
        assert reference.characters == 8 * reference.windows
        assert reference.excess == reference.excess_error == reference.divergence == 0


def test_equal_products_lose_nothing(model):
    score = LanguageTest(model, TEXT).score(model.float_matmul)
    assert (score.excess, score.excess_error, score.divergence) == (0, 0, 0)


def probabilities(model, window):
    logits = model.logits(window[:-1]).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_by_hand(model):
    other = model.with_matmul(coarse(model))
    excesses, divergences, losses = [], [], []
    for start in range(0, 56, 8):
        window = np.frombuffer(TEXT[start : start + 9], np.uint8)
        p, q = probabilities(model, window), probabilities(other, window)
        rows = np.arange(8)
        losses.append(-np.log(q[rows, window[1:]]).mean())
        excesses.append(losses[-1] + np.log(p[rows, window[1:]]).mean())
        divergences.append((p * np.log(p / q)).sum(axis=1).mean())
    score = LanguageTest(model, TEXT).score(coarse(model))
    assert score.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert score.excess == pytest.approx(np.mean(excesses), rel=1e-4)
    assert score.excess_error == pytest.approx(np.std(excesses, ddof=1) / 7**0.5, rel=1e-4)
    assert score.divergence == pytest.approx(np.mean(divergences), rel=1e-4)
    assert score.divergence > 0


def test_one_window_has_no_standard_error(model):
    assert LanguageTest(model, TEXT, 1).score(coarse(model)).excess_error == 0


def test_a_text_that_is_too_short(model):
    with pytest.raises(ValueError, match=r"^The text must be longer than 8 characters, not 8$"):
        LanguageTest(model, bytes(8))
