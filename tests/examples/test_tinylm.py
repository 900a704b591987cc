"""The character models of ``examples/tinylm`` and their checkpoints."""

from pathlib import Path

import corpus
import numpy as np
import pytest
from dims import CHECKPOINTS, SIZES

from lutra.sim.model_dims import DIMS, tensor_shapes
from lutra.sim.tiny_lm import KvCache, TinyLM, load

FOLDER = Path(__file__).parents[2] / "examples" / "tinylm"
CHECKPOINT = FOLDER / CHECKPOINTS["medium"]
SIZE_LIMIT_BYTES = 4_000_000
PERPLEXITY_LIMIT = 4.0
PROMPT = b"def main(argv):\n    "


@pytest.fixture(scope="module")
def lm() -> TinyLM:
    return load(CHECKPOINT)


def test_checkpoint_has_the_dimensions_of_the_code(lm: TinyLM) -> None:
    assert lm.dims == DIMS
    assert {name: tensor.shape for name, tensor in lm.tensors.items()} == tensor_shapes()
    assert all(tensor.dtype == np.float32 for tensor in lm.tensors.values())
    assert CHECKPOINT.stat().st_size < SIZE_LIMIT_BYTES


def test_parameter_count(lm: TinyLM) -> None:
    assert sum(tensor.size for tensor in lm.tensors.values()) == 1_082_496


def test_linear_layers_are_the_matrices_but_the_embedding(lm: TinyLM) -> None:
    names = {f"{name}.weight" for name in lm.linear_layers()}
    matrices = {name for name, tensor in lm.tensors.items() if tensor.ndim == 2}
    assert names == matrices - {"model.embed_tokens.weight"}
    assert len(lm.linear_layers()) == 7 * DIMS.layer_count + 1


def test_cache_equals_whole_sequence_for_checkpoint(lm: TinyLM) -> None:
    tokens = np.frombuffer(corpus.held_out_text()[: DIMS.context_length], np.uint8)
    cache = KvCache()
    parts = [lm.logits(tokens[:200], cache)]
    parts += [lm.logits(tokens[n : n + 1], cache) for n in range(200, len(tokens))]
    np.testing.assert_allclose(np.concatenate(parts), lm.logits(tokens), atol=1e-4)


def test_generate_is_deterministic(lm: TinyLM) -> None:
    seen: list[int] = []
    text = lm.generate(PROMPT, 40, on_token=seen.append)
    assert text == bytes(seen) == lm.generate(PROMPT, 40)
    assert len(text) == 40


def test_generate_draws_by_seed(lm: TinyLM) -> None:
    first, again, other = (
        lm.generate(PROMPT, 40, temperature=1.0, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_perplexity_of_the_checkpoint(lm: TinyLM) -> None:
    perplexity = lm.perplexity(corpus.held_out_text(), window_count=16)
    assert 1 < perplexity < PERPLEXITY_LIMIT


def test_corpus_is_ascii_and_held_out_is_not_trained_on() -> None:
    trained, held_out = corpus.training_text(), corpus.held_out_text()
    assert trained.isascii()
    assert held_out.isascii()
    assert len(trained) > 10 * len(held_out)
    for line in (b"class ArgumentParser(", b"def heappush(", b"class shlex:"):
        assert line in held_out
        assert line not in trained


@pytest.mark.parametrize("size", SIZES)
def test_checkpoints_have_the_dimensions_of_their_size(size: str) -> None:
    path = FOLDER / CHECKPOINTS[size]
    if size == "large" and not path.exists():
        pytest.skip("not in the repository: train.py --size large makes it")
    model = load(path)
    assert model.dims == SIZES[size]
    assert size == "large" or path.stat().st_size < SIZE_LIMIT_BYTES
    perplexity = model.perplexity(corpus.held_out_text(), window_count=4)
    assert 1 < perplexity < PERPLEXITY_LIMIT + 1


def test_sizes() -> None:
    counts = {
        size: sum(int(np.prod(shape)) for shape in tensor_shapes(dims).values())
        for size, dims in SIZES.items()
    }
    assert counts == {"small": 279_104, "medium": 1_082_496, "large": 4_262_144}
