"""One block of a decoder in float64: what transforms must not change."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["DecoderBlock", "Tensors"]

Tensors = Mapping[str, npt.NDArray[np.floating]]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DecoderBlock:
    """A block of the Llama kind: names of its tensors, and how they compute.

    Norms are RMSNorms, or LayerNorms where a tensor ``.bias`` stands beside their weight; linear
    layers may have biases. Attention is causal, with rotary positions; several query heads may
    share a head of keys and values.

    Parameters
    ----------
    prefix : str
        Of the tensors' names, such as "model.layers.0".
    heads, kv_heads : int
        Heads of queries, and of keys and values.
    rope_base : float
        Base of the rotary frequencies.
    rope_pairs : str
        "half" if the elements of a pair lie half a head apart, "adjacent" if side by side.
    norm_eps : float

    Raises
    ------
    :exc:`ValueError`
        If heads cannot be shared evenly, or the pairs are of another kind.
    """

    prefix: str
    heads: int
    kv_heads: int
    rope_base: float = 10000.0
    rope_pairs: str = "half"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(
                f"Query heads must be a multiple of the heads of keys, not {self.heads} and "
                f"{self.kv_heads}"
            )
        if self.rope_pairs not in ("half", "adjacent"):
            raise ValueError(f"Pairs must be 'half' or 'adjacent', not {self.rope_pairs!r}")

    def name(self, part: str) -> str:
        """Return the full name of a part, such as ``self_attn.q_proj``."""
        return f"{self.prefix}.{part}"

    @property
    def attention_norm(self) -> str:
        """Name of the norm before the attention."""
        return self.name("input_layernorm")

    @property
    def mlp_norm(self) -> str:
        """Name of the norm before the feed-forward part."""
        return self.name("post_attention_layernorm")

    def after_norms(self) -> dict[str, tuple[str, ...]]:
        """Return the linear layers that take the output of each norm, by its name."""
        attention = tuple(self.name(f"self_attn.{part}_proj") for part in "qkv")
        mlp = tuple(self.name(f"mlp.{part}_proj") for part in ("gate", "up"))
        return {self.attention_norm: attention, self.mlp_norm: mlp}

    def pairs(self, head_size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the first and the second element of each rotary pair of a head."""
        half = np.arange(head_size // 2)
        if self.rope_pairs == "half":
            return half, half + head_size // 2
        return 2 * half, 2 * half + 1

    def forward(self, tensors: Tensors, x: npt.NDArray[np.floating]) -> _Floats:
        """Compute the block in float64 for one sequence, shape (M, hidden)."""
        x = np.asarray(x, np.float64)
        x = x + self._attention(tensors, self._norm(tensors, self.attention_norm, x))
        normed = self._norm(tensors, self.mlp_norm, x)
        gate = linear(tensors, self.name("mlp.gate_proj"), normed)
        gate *= 0.5 + 0.5 * np.tanh(0.5 * gate)
        hidden = gate * linear(tensors, self.name("mlp.up_proj"), normed)
        return x + linear(tensors, self.name("mlp.down_proj"), hidden)

    def _norm(self, tensors: Tensors, name: str, x: _Floats) -> _Floats:
        gain = tensors[f"{name}.weight"].astype(np.float64)
        bias = tensors.get(f"{name}.bias")
        if bias is None:
            return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.norm_eps) * gain
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self.norm_eps)
        return centred / deviation * gain + bias.astype(np.float64)

    def _attention(self, tensors: Tensors, x: _Floats) -> _Floats:
        q, k, v = (
            linear(tensors, self.name(f"self_attn.{part}_proj"), x)
            .reshape(len(x), heads, -1)
            .swapaxes(0, 1)
            for part, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads))
        )
        share = self.heads // self.kv_heads
        k, v = np.repeat(k, share, axis=0), np.repeat(v, share, axis=0)
        q, k = self._rotated(q), self._rotated(k)
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[2])
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = powers / powers.sum(axis=-1, keepdims=True) @ v
        joined = mixed.swapaxes(0, 1).reshape(len(x), -1)
        return linear(tensors, self.name("self_attn.o_proj"), joined)

    def _rotated(self, x: _Floats) -> _Floats:
        size = x.shape[2]
        angles = np.outer(np.arange(x.shape[1]), self.rope_base ** (-np.arange(0, size, 2) / size))
        first, second = self.pairs(size)
        turned = np.empty_like(x)
        turned[..., first] = x[..., first] * np.cos(angles) - x[..., second] * np.sin(angles)
        turned[..., second] = x[..., second] * np.cos(angles) + x[..., first] * np.sin(angles)
        return turned


def linear(tensors: Tensors, name: str, x: _Floats) -> _Floats:
    """Multiply with a layer of a checkpoint, in float64."""
    y = x @ tensors[f"{name}.weight"].astype(np.float64).T
    bias = tensors.get(f"{name}.bias")
    return y if bias is None else y + bias.astype(np.float64)
