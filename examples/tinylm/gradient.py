"""Gradients of the model in NumPy: what a calibration needs of training."""

import numpy as np
from numpy.typing import NDArray

from lutra.sim.tiny_lm import Floats, TinyLM

__all__ = ["LayerGradients", "layer_gradients"]

LayerGradients = dict[str, tuple[Floats, Floats]]
"""For each layer its input, (M, K), and the gradient of a loss for its output, (M, N)."""


def layer_gradients(
    model: TinyLM, tokens: NDArray[np.uint8], rng: np.random.Generator
) -> LayerGradients:
    """Read a window and go back through it.

    The loss is the negative log likelihood, summed over the window, of characters that the model
    itself draws. The mean square of its gradient is the Fisher information, which is the second
    derivative of the Kullback-Leibler divergence of the model's output.

    Parameters
    ----------
    model : TinyLM
        In floating point.
    tokens : uint8 array, shape (M,)
        At most one context.
    rng : :class:`numpy.random.Generator`
        Draws the characters.
    """
    return _Reader(model).gradients(tokens, rng)


class _Reader:
    """One pass through the model that remembers what the way back needs."""

    def __init__(self, model: TinyLM) -> None:
        self._model = model
        self._dims = model.dims
        self._inputs: dict[str, Floats] = {}
        self._outputs: dict[str, Floats] = {}
        self._gradients: dict[str, Floats] = {}

    def gradients(self, tokens: NDArray[np.uint8], rng: np.random.Generator) -> LayerGradients:
        """Do all of it."""

        def product(name: str, x: Floats) -> Floats:
            self._inputs[name] = x
            self._outputs[name] = self._model.float_matmul(name, x)
            return self._outputs[name]

        logits = self._model.with_matmul(product).logits(tokens)
        p = _softmax(logits)
        drawn = np.minimum((p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1), p.shape[1] - 1)
        d = p.copy()
        d[np.arange(len(p)), drawn] -= 1
        residuals = self._residuals(tokens)
        d = self._back_norm("model.norm", residuals[-1], self._back("lm_head", d))
        for layer in reversed(range(self._dims.layer_count)):
            d = d + self._back_feed_forward(layer, residuals[2 * layer + 1], d)
            d = d + self._back_attention(layer, residuals[2 * layer], d)
        return {name: (self._inputs[name], self._gradients[name]) for name in self._inputs}

    def _residuals(self, tokens: NDArray[np.uint8]) -> list[Floats]:
        """Return the residual stream before each half of each layer, and at the end."""
        found = [self._model.tensors["model.embed_tokens.weight"][tokens]]
        for layer in range(self._dims.layer_count):
            for part in ("self_attn.o_proj", "mlp.down_proj"):
                found.append(found[-1] + self._outputs[f"model.layers.{layer}.{part}"])
        return found

    def _back(self, name: str, d: Floats) -> Floats:
        self._gradients[name] = d
        return d @ self._model.tensors[f"{name}.weight"]

    def _back_norm(self, name: str, x: Floats, d: Floats) -> Floats:
        mean_square = np.mean(x * x, axis=-1, keepdims=True) + np.float32(self._dims.norm_eps)
        scale = np.asarray(1 / np.sqrt(mean_square), np.float32)
        weighted = np.asarray(d * self._model.tensors[f"{name}.weight"], np.float32)
        return scale * weighted - x * scale**3 * np.mean(weighted * x, axis=-1, keepdims=True)

    def _back_feed_forward(self, layer: int, x: Floats, d: Floats) -> Floats:
        prefix = f"model.layers.{layer}"
        gate = self._outputs[f"{prefix}.mlp.gate_proj"]
        up = self._outputs[f"{prefix}.mlp.up_proj"]
        share = np.asarray(0.5 + 0.5 * np.tanh(0.5 * gate), np.float32)
        inner = self._back(f"{prefix}.mlp.down_proj", d)
        slope = np.asarray(share * (1 + gate * (1 - share)), np.float32)
        d_normed = self._back(f"{prefix}.mlp.gate_proj", inner * up * slope)
        d_normed = d_normed + self._back(f"{prefix}.mlp.up_proj", inner * gate * share)
        return self._back_norm(f"{prefix}.post_attention_layernorm", x, d_normed)

    def _back_attention(self, layer: int, x: Floats, d: Floats) -> Floats:
        prefix = f"model.layers.{layer}"
        q, k, v = (
            self._heads(self._outputs[f"{prefix}.self_attn.{name}"])
            for name in ("q_proj", "k_proj", "v_proj")
        )
        q, k = self._rotated(q, 1), self._rotated(k, 1)
        scale = np.float32(self._dims.head_size**-0.5)
        scores = q @ k.swapaxes(-1, -2) * scale
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
        p = _softmax(scores)
        d_mixed = self._heads(self._back(f"{prefix}.self_attn.o_proj", d))
        d_p = d_mixed @ v.swapaxes(-1, -2)
        d_scores = p * (d_p - (d_p * p).sum(axis=-1, keepdims=True)) * scale
        parts = {
            "q_proj": self._rotated(d_scores @ k, -1),
            "k_proj": self._rotated(d_scores.swapaxes(-1, -2) @ q, -1),
            "v_proj": p.swapaxes(-1, -2) @ d_mixed,
        }
        d_normed = np.zeros_like(x)
        for name, part in parts.items():
            joined = part.swapaxes(0, 1).reshape(x.shape)
            d_normed = d_normed + self._back(f"{prefix}.self_attn.{name}", joined)
        return self._back_norm(f"{prefix}.input_layernorm", x, d_normed)

    def _heads(self, x: Floats) -> Floats:
        return x.reshape(-1, self._dims.head_count, self._dims.head_size).swapaxes(0, 1)

    def _rotated(self, x: Floats, direction: int) -> Floats:
        exponents = np.arange(0, self._dims.head_size, 2) / self._dims.head_size
        angles = np.outer(np.arange(x.shape[1]), self._dims.rope_base**-exponents)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(direction * angles).astype(np.float32)
        half = x.shape[-1] // 2
        low, high = x[..., :half], x[..., half:]
        parts = [low * cos - high * sin, high * cos + low * sin]
        return np.concatenate(parts, axis=-1, dtype=np.float32)


def _softmax(x: Floats) -> Floats:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
