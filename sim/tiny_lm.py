"""A small character model in NumPy, of the Llama kind, whose matrix products can be replaced.

The loop is the same whether the products are done in floating point, by a golden model or by an
emulated matrix engine; only the function handed over as ``matmul`` differs.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open

from .model_dims import DIMS, ModelDims, tensor_shapes

__all__ = ["Floats", "KvCache", "Matmul", "TinyLM", "load"]

Floats = NDArray[np.float32]

Matmul = Callable[[str, Floats], Floats]
"""Matrix product of one layer: ``(name, x (M, K) float32) -> (M, N) float32``.

The name is that of the layer's weight without ``.weight``; the product stands for ``x @ weight.T``
with ``weight`` of shape (N, K).
"""


class KvCache:
    """Keys and values of the tokens read so far, for one sequence.

    Parameters
    ----------
    dims : :class:`ModelDims`
        Dimensions of the model it is for; it has room for one whole context.

    Attributes
    ----------
    length : :class:`int`
        Number of tokens held.
    keys, values : ``(layers, heads, context_length, head_size) float32``
        Only the first ``length`` rows of each head hold something.
    """

    def __init__(self, dims: ModelDims = DIMS) -> None:
        shape = (dims.layer_count, dims.head_count, dims.context_length, dims.head_size)
        self.length = 0
        self.keys = np.zeros(shape, np.float32)
        self.values = np.zeros(shape, np.float32)


class TinyLM:
    """Decoder-only character model with a replaceable matrix product.

    RMSNorm, rotary positions in the half-split form, causal attention and a gated feed-forward
    part with SiLU, without biases; the output matrix is not tied to the embedding.

    Parameters
    ----------
    tensors : mapping of :class:`str` to arrays
        Tensors of a checkpoint as :func:`tensor_shapes` names them; converted to float32.
    matmul : :data:`Matmul` or :data:`None`
        Does the matrix product of each layer of :meth:`linear_layers`; by default
        :meth:`float_matmul`. All else is done in float32 here.
    dims : :class:`ModelDims`
        Dimensions of the model.

    Attributes
    ----------
    dims : :class:`ModelDims`
        As given.
    tensors : :class:`dict`
        float32 arrays, from which a ``matmul`` can take its weights.
    matmul : :data:`Matmul`
        The product in use.

    Raises
    ------
    :exc:`ValueError`
        If a tensor is missing, or one has another shape or name.

    Source
    ------
    Touvron et al., LLaMA: Open and Efficient Foundation Language Models, 2023, section 2.2;
    Su et al., RoFormer, 2021, section 3.4.2, with the elements of a pair half a head apart.
    """

    def __init__(
        self,
        tensors: Mapping[str, NDArray[Any]],
        matmul: Matmul | None = None,
        *,
        dims: ModelDims = DIMS,
    ) -> None:
        _check_tensors(tensors, dims)
        self.dims = dims
        self.tensors: dict[str, Floats] = {
            name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()
        }
        self.matmul: Matmul = self.float_matmul if matmul is None else matmul
        self._cos, self._sin = _rotary_tables(dims)

    def linear_layers(self) -> list[str]:
        """Names of the layers that go through ``matmul``, in the order in which they are used."""
        return [
            name.removesuffix(".weight")
            for name, shape in tensor_shapes(self.dims).items()
            if len(shape) == 2 and name != "model.embed_tokens.weight"
        ]

    def with_matmul(self, matmul: Matmul | None) -> Self:
        """Make the same model, sharing its tensors, with another matrix product."""
        return type(self)(self.tensors, matmul, dims=self.dims)

    def float_matmul(self, name: str, x: Floats) -> Floats:
        """Multiply in floating point: the product used when none is given.

        Parameters
        ----------
        name : :class:`str`
            Name of the layer.
        x : float32 array, shape (M, K)
            One token in each row.

        Returns
        -------
        float32 array, shape (M, N)
            ``x @ weight.T``; the order of summation is that of NumPy.
        """
        return x @ self._weight(name).T

    def logits(self, tokens: ArrayLike, cache: KvCache | None = None) -> Floats:
        """Read tokens, all at once, and predict what follows each of them.

        Parameters
        ----------
        tokens : array of integers, shape (M,)
            Tokens to read, below ``vocab_size``.
        cache : :class:`KvCache` or :data:`None`
            What was read before them; the tokens are added to it. By default nothing was.

        Returns
        -------
        float32 array, shape (M, vocab_size)
            In row ``m``, the logits of the token after ``tokens[m]``.

        Raises
        ------
        :exc:`ValueError`
            If the tokens are none, are more than the context has room for, or are not of the
            vocabulary.
        """
        cache = KvCache(self.dims) if cache is None else cache
        ids = self._checked(tokens, cache)
        x = self._weight("model.embed_tokens")[ids]
        for layer in range(self.dims.layer_count):
            x = x + self._attention(layer, x, cache)
            x = x + self._feed_forward(layer, x)
        cache.length += len(ids)
        return self._linear("lm_head", self._norm("model.norm", x))

    def generate(
        self,
        prompt: bytes,
        count: int,
        *,
        matmul: Matmul | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        on_token: Callable[[int], None] | None = None,
    ) -> bytes:
        """Continue a text.

        The context may fill up on the way: then its older half is forgotten and the newer one is
        read again, so that ``count`` has no limit. Of a prompt longer than the context, only the
        end is read.

        Parameters
        ----------
        prompt : :class:`bytes`
            Text to continue, ASCII, at least one character.
        count : :class:`int`
            Number of characters to add.
        matmul : :data:`Matmul` or :data:`None`
            Matrix product to use for this text instead of the model's own.
        temperature : :class:`float`
            0 takes the likeliest character each time; 1 draws as the model predicts.
        seed : :class:`int`
            Seed of the draw; equal seeds give equal texts.
        on_token : callable or :data:`None`
            Called with each character's code as soon as it is known.

        Returns
        -------
        :class:`bytes`
            The characters added, without the prompt.

        Raises
        ------
        :exc:`ValueError`
            If the prompt is empty or not ASCII, or the temperature is negative.
        """
        if temperature < 0:
            raise ValueError(f"Temperature must be zero or positive, not {temperature!r}")
        model = self if matmul is None else self.with_matmul(matmul)
        rng = np.random.default_rng(seed)
        text = bytearray()
        for logits in model._steps(bytearray(prompt), text, count):
            token = _pick(logits, temperature, rng)
            text.append(token)
            if on_token is not None:
                on_token(token)
        return bytes(text)

    def perplexity(self, text: bytes, *, window_count: int | None = None) -> float:
        """Perplexity per character: ``exp`` of the mean negative log likelihood.

        The text is cut into windows of one context each that do not overlap. Nothing is carried
        from one to the next, so the first characters of each are predicted from little.

        Parameters
        ----------
        text : :class:`bytes`
            ASCII text, longer than the context.
        window_count : :class:`int` or :data:`None`
            Number of windows to measure, spread evenly over the text; by default all of them.

        Returns
        -------
        :class:`float`
            1 would be perfect foresight, ``vocab_size`` blind guessing.

        Raises
        ------
        :exc:`ValueError`
            If the text is not longer than the context, or there are fewer windows than asked for.
        """
        windows = self.windows(text, window_count)
        total = 0.0
        for window in windows:
            predicted = self.log_probabilities(window[:-1])
            chosen = predicted[np.arange(len(predicted)), window[1:]]
            total -= float(chosen.sum(dtype=np.float64))
        return float(np.exp(total / windows[:, 1:].size))

    def windows(self, text: bytes, count: int | None = None) -> NDArray[np.uint8]:
        """Cut a text into windows of one context each that do not overlap.

        Parameters
        ----------
        text : :class:`bytes`
            Text of the vocabulary, longer than the context.
        count : :class:`int` or :data:`None`
            Number of windows, spread evenly over the text; by default all of them.

        Returns
        -------
        uint8 array, shape (count, context_length + 1)
            A token more than a context: each but the last is read, each but the first predicted.

        Raises
        ------
        :exc:`ValueError`
            If the text is not longer than the context, has other tokens, or has fewer windows than
            asked for.
        """
        length = self.dims.context_length
        tokens = np.frombuffer(text, np.uint8)
        if len(tokens) <= length:
            raise ValueError(f"The text must be longer than {length} characters, not {len(tokens)}")
        if tokens.max() >= self.dims.vocab_size:
            raise ValueError(
                f"The text must have bytes below {self.dims.vocab_size} only, not {tokens.max()}"
            )
        available = (len(tokens) - 1) // length
        chosen = available if count is None else count
        if not 0 < chosen <= available:
            raise ValueError(f"Window count must be from 1 to {available}, not {chosen!r}")
        starts = np.arange(chosen)[:, None] * available // chosen * length
        return tokens[starts + np.arange(length + 1)]

    def log_probabilities(self, tokens: ArrayLike) -> Floats:
        """Read tokens and return the logarithms of what is predicted after each of them.

        Parameters
        ----------
        tokens : array of integers, shape (M,)
            As for :meth:`logits`.

        Returns
        -------
        float32 array, shape (M, vocab_size)
        """
        return _log_softmax(self.logits(tokens))

    def _steps(self, prompt: bytearray, text: bytearray, count: int) -> Iterator[Floats]:
        # Yields the logits of the next character; the caller appends its choice to the text.
        length = self.dims.context_length
        cache = KvCache(self.dims)
        unread = bytes(prompt[-length:])
        for _ in range(count):
            if cache.length + len(unread) > length:
                cache = KvCache(self.dims)
                unread = bytes((prompt + text)[-(length // 2) :])
            yield self.logits(np.frombuffer(unread, np.uint8), cache)[-1]
            unread = bytes(text[-1:])

    def _checked(self, tokens: ArrayLike, cache: KvCache) -> NDArray[np.intp]:
        ids = np.asarray(tokens, np.intp)
        room = self.dims.context_length - cache.length
        if ids.ndim != 1 or not 0 < ids.size <= room:
            raise ValueError(f"Tokens must be from 1 to {room} in one row, not {ids.shape!r}")
        if ids.min() < 0 or ids.max() >= self.dims.vocab_size:
            raise ValueError(f"Tokens must be from 0 to {self.dims.vocab_size - 1}")
        return ids

    def _linear(self, name: str, x: Floats) -> Floats:
        y = self.matmul(name, x)
        shape = (x.shape[0], self._weight(name).shape[0])
        if y.shape != shape or y.dtype != np.float32:
            raise ValueError(
                f"Product of {name} must be {shape!r} float32, not {y.shape!r} {y.dtype}"
            )
        return y

    def _weight(self, name: str) -> Floats:
        return self.tensors[f"{name}.weight"]

    def _norm(self, name: str, x: Floats) -> Floats:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + np.float32(self.dims.norm_eps)) * self._weight(name)

    def _attention(self, layer: int, x: Floats, cache: KvCache) -> Floats:
        prefix = f"model.layers.{layer}"
        normed = self._norm(f"{prefix}.input_layernorm", x)
        q, k, v = (
            self._split_heads(self._linear(f"{prefix}.self_attn.{name}", normed))
            for name in ("q_proj", "k_proj", "v_proj")
        )
        start, end = cache.length, cache.length + x.shape[0]
        cache.keys[layer, :, start:end] = self._rotated(k, start)
        cache.values[layer, :, start:end] = v
        scale = np.float32(self.dims.head_size**-0.5)
        scores = self._rotated(q, start) @ cache.keys[layer, :, :end].swapaxes(-1, -2) * scale
        future = np.arange(end) > np.arange(start, end)[:, None]
        scores[:, future] = -np.inf
        mixed = np.exp(_log_softmax(scores)) @ cache.values[layer, :, :end]
        joined = mixed.swapaxes(0, 1).reshape(x.shape)
        return self._linear(f"{prefix}.self_attn.o_proj", joined)

    def _feed_forward(self, layer: int, x: Floats) -> Floats:
        prefix = f"model.layers.{layer}"
        normed = self._norm(f"{prefix}.post_attention_layernorm", x)
        gate = self._linear(f"{prefix}.mlp.gate_proj", normed)
        up = self._linear(f"{prefix}.mlp.up_proj", normed)
        return self._linear(f"{prefix}.mlp.down_proj", _silu(gate) * up)

    def _split_heads(self, x: Floats) -> Floats:
        # (M, heads * head_size) to (heads, M, head_size)
        return x.reshape(-1, self.dims.head_count, self.dims.head_size).swapaxes(0, 1)

    def _rotated(self, x: Floats, start: int) -> Floats:
        # The partner of an element lies half a head away, not next to it.
        cos, sin = (table[start : start + x.shape[1]] for table in (self._cos, self._sin))
        half = x.shape[-1] // 2
        low, high = x[..., :half], x[..., half:]
        rotated = np.empty_like(x)
        rotated[..., :half] = low * cos - high * sin
        rotated[..., half:] = high * cos + low * sin
        return rotated


def load(path: str | Path, matmul: Matmul | None = None) -> TinyLM:
    """Read a checkpoint, with its dimensions, from a safetensors file.

    The dimensions are in the file's metadata, under the names of :class:`ModelDims`.

    Parameters
    ----------
    path : :class:`str` or :class:`pathlib.Path`
        File with float tensors as :func:`tensor_shapes` names them, such as
        ``examples/tinylm/train.py`` writes.
    matmul : :data:`Matmul` or :data:`None`
        As for :class:`TinyLM`.

    Returns
    -------
    :class:`TinyLM`
        The model.

    Raises
    ------
    :exc:`ValueError`
        If the metadata do not have the dimensions, or the tensors are not those of such a model.
    """
    with safe_open(path, framework="numpy") as checkpoint:
        try:
            dims = ModelDims.from_metadata(checkpoint.metadata() or {})
        except KeyError as error:
            raise ValueError(
                f"{path} is no language model that Lutra can run: its metadata do not have "
                f"{error.args[0]}; examples/tinylm/train.py writes such checkpoints"
            ) from None
        names = checkpoint.keys()
        tensors = {name: checkpoint.get_tensor(name) for name in names}
    return TinyLM(tensors, matmul, dims=dims)


def _check_tensors(tensors: Mapping[str, NDArray[Any]], dims: ModelDims) -> None:
    expected = tensor_shapes(dims)
    if unmatched := sorted(expected.keys() ^ tensors.keys()):
        raise ValueError(f"Tensors must be those of the model, unmatched: {', '.join(unmatched)}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"Shape of {name} must be {shape!r}, not {tensors[name].shape!r}")


def _rotary_tables(dims: ModelDims) -> tuple[Floats, Floats]:
    # Both (context_length, head_size / 2); computed in float64 as angles reach the whole context.
    exponents = np.arange(0, dims.head_size, 2) / dims.head_size
    angles = np.outer(np.arange(dims.context_length), dims.rope_base**-exponents)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _silu(x: Floats) -> Floats:
    # The form with tanh cannot overflow, whatever a product makes of its inputs.
    return np.asarray(x * (0.5 + 0.5 * np.tanh(0.5 * x)), np.float32)


def _log_softmax(x: Floats) -> Floats:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _pick(logits: Floats, temperature: float, rng: np.random.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    # float64, as the generator wants the probabilities to add up to one more closely.
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return int(rng.choice(len(weights), p=weights / weights.sum()))
