"""The language model in NumPy, on a small one with random weights."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from lutra.sim.model_dims import ModelDims, tensor_shapes
from lutra.sim.tiny_lm import KvCache, TinyLM, load

# Smaller than a checkpoint in all respects, and with no two sizes equal, so that a transposed
# matrix or a mixed up axis cannot go unnoticed.
SMALL = ModelDims(
    hidden_size=24, intermediate_size=40, layer_count=2, head_count=3, context_length=16
)


@pytest.fixture
def small() -> TinyLM:
    rng = np.random.default_rng(1)
    shapes = tensor_shapes(SMALL)
    tensors = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    return TinyLM(tensors, dims=SMALL)


def test_dims_survive_metadata() -> None:
    assert ModelDims.from_metadata(SMALL.to_metadata()) == SMALL


def test_dims_reject_odd_heads() -> None:
    with pytest.raises(ValueError, match=r"^Hidden size must be a multiple of 8, .* not 20$"):
        ModelDims(hidden_size=20, head_count=4)


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_cache_equals_whole_sequence(small: TinyLM, chunk: int) -> None:
    tokens = np.random.default_rng(2).integers(0, SMALL.vocab_size, SMALL.context_length)
    cache = KvCache(SMALL)
    parts = [small.logits(tokens[n : n + chunk], cache) for n in range(0, len(tokens), chunk)]
    # Not bit for bit: NumPy adds up the elements of a product in another order for another shape.
    np.testing.assert_allclose(np.concatenate(parts), small.logits(tokens), atol=1e-4)
    assert cache.length == SMALL.context_length


def test_attention_does_not_see_the_future(small: TinyLM) -> None:
    tokens = np.arange(10)
    changed = tokens.copy()
    changed[6] = 99
    same = np.isclose(small.logits(tokens), small.logits(changed), rtol=0, atol=1e-6).all(axis=1)
    assert same.tolist() == [True] * 6 + [False] * 4


def test_order_matters(small: TinyLM) -> None:
    # Without rotary positions, attention would see a set: the same one in both cases.
    near, far = (small.logits(tokens)[-1] for tokens in ([7, 5, 5, 9, 5], [7, 9, 5, 5, 5]))
    assert np.abs(near - far).max() > 1e-2


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], r"^Tokens must be from 1 to 16 in one row, not \(0,\)$"),
        ([1] * 17, r"^Tokens must be from 1 to 16 in one row, not \(17,\)$"),
        ([[1]], r"^Tokens must be from 1 to 16 in one row, not \(1, 1\)$"),
        ([128], r"^Tokens must be from 0 to 127$"),
        ([-1], r"^Tokens must be from 0 to 127$"),
    ],
)
def test_logits_reject_tokens(small: TinyLM, tokens: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small.logits(tokens)


def test_tensors_are_checked(small: TinyLM) -> None:
    tensors = dict(small.tensors)
    tensors["model.norm.weight"] = np.ones(25, np.float32)
    with pytest.raises(ValueError, match=r"^Shape of model.norm.weight must be \(24,\), not"):
        TinyLM(tensors, dims=SMALL)
    del tensors["model.norm.weight"]
    with pytest.raises(ValueError, match=r"unmatched: model.norm.weight$"):
        TinyLM(tensors, dims=SMALL)


def test_matmul_is_called_for_each_linear_layer(small: TinyLM) -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []

    def recorded(name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        assert x.dtype == np.float32
        calls.append((name, x.shape))
        return small.float_matmul(name, x)

    tokens = np.arange(5)
    logits = small.with_matmul(recorded).logits(tokens)
    assert np.array_equal(logits, small.logits(tokens))
    assert [name for name, _ in calls] == small.linear_layers()
    inputs = [small.tensors[f"{name}.weight"].shape[1] for name, _ in calls]
    assert [shape for _, shape in calls] == [(5, k) for k in inputs]


def test_matmul_result_is_what_counts(small: TinyLM) -> None:
    def zeros(name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(x), len(small.tensors[f"{name}.weight"])), np.float32)

    assert not small.with_matmul(zeros).logits([1, 2, 3]).any()
    assert small.generate(b"ab", 3, matmul=zeros) == b"\0\0\0"


@pytest.mark.parametrize(("shape", "kind"), [((1, 24), "float64"), ((24, 1), "float32")])
def test_matmul_result_is_checked(small: TinyLM, shape: tuple[int, int], kind: str) -> None:
    wrong: Any = np.zeros(shape, kind)
    message = f"q_proj must be (1, 24) float32, not {shape} {kind}"
    with pytest.raises(ValueError, match=re.escape(message)):
        small.with_matmul(lambda name, x: wrong).logits([1])


def test_generate_takes_the_likeliest(small: TinyLM) -> None:
    text = small.generate(b"abc", 4)
    tokens = np.frombuffer(b"abc" + text, np.uint8)
    assert bytes(small.logits(tokens[:-1]).argmax(axis=1)[2:].tolist()) == text


def test_generate_goes_on_past_the_context(small: TinyLM) -> None:
    text = small.generate(b"x" * 20, 50)
    assert len(text) == 50
    # 20 characters of prompt: the context fills with the last 16, and is begun anew from the last
    # 8 of all; the choice that follows depends on no others.
    again = small.generate((b"x" * 20 + text[:1])[-8:], 9)
    assert again == text[1:10]


@pytest.mark.parametrize("prompt", [b"", b"caf\xc3\xa9"])
def test_generate_rejects_prompt(small: TinyLM, prompt: bytes) -> None:
    with pytest.raises(ValueError, match=r"^Tokens must be "):
        small.generate(prompt, 1)


def test_generate_rejects_negative_temperature(small: TinyLM) -> None:
    with pytest.raises(ValueError, match=r"^Temperature must be zero or positive, not -1$"):
        small.generate(b"a", 1, temperature=-1)


def test_perplexity_by_hand(small: TinyLM) -> None:
    text = bytes(np.random.default_rng(4).integers(0, 128, 40).tolist())
    chances: list[float] = []
    for start in (0, 16):
        weights = np.exp(small.logits(list(text[start : start + 16])).astype(np.float64))
        target = text[start + 1 : start + 17]
        chances += [row[token] / row.sum() for row, token in zip(weights, target, strict=True)]
    assert small.perplexity(text) == pytest.approx(np.exp(-np.mean(np.log(chances))), rel=1e-5)


def test_perplexity_of_equal_chances(small: TinyLM) -> None:
    tensors = small.tensors | {"lm_head.weight": np.zeros((128, 24), np.float32)}
    guessing = TinyLM(tensors, dims=SMALL)
    assert guessing.perplexity(b"any text, however long it is" * 4) == pytest.approx(128)


@pytest.mark.parametrize("count", [0, 3])
def test_perplexity_rejects_window_count(small: TinyLM, count: int) -> None:
    with pytest.raises(ValueError, match=rf"^Window count must be from 1 to 2, not {count}$"):
        small.perplexity(bytes(40), window_count=count)


def test_windows_are_spread_and_do_not_overlap(small: TinyLM) -> None:
    text = bytes(range(100))
    assert small.windows(text)[:, 0].tolist() == [0, 16, 32, 48, 64, 80]
    assert small.windows(text, 4)[:, 0].tolist() == [0, 16, 48, 64]
    assert small.windows(text, 2)[1].tolist() == list(range(48, 65))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bytes(16), r"^The text must be longer than 16 characters, not 16$"),
        (b"caf\xc3\xa9" * 9, r"^The text must have bytes below 128 only, not 195$"),
    ],
)
def test_windows_reject_text(small: TinyLM, text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small.windows(text)


def test_load_finds_the_dimensions(small: TinyLM, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(small.tensors, path, SMALL.to_metadata() | {"more": "of it"})
    again = load(path)
    assert again.dims == SMALL
    assert np.array_equal(again.logits([1, 2, 3]), small.logits([1, 2, 3]))


def test_load_refuses_other_checkpoints(small: TinyLM, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(small.tensors, path)
    with pytest.raises(ValueError, match=r"no language model that Lutra can run: .* vocab_size"):
        load(path)
