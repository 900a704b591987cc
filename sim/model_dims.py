"""Dimensions of a small language model and the tensors that follow from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

__all__ = ["DIMS", "ModelDims", "tensor_shapes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDims:
    """Dimensions of the model, under the usual names of the Llama architecture.

    Parameters
    ----------
    vocab_size : :class:`int`
        Number of tokens; token ``n`` is the byte ``n``.
    hidden_size : :class:`int`
        Elements of the residual stream.
    intermediate_size : :class:`int`
        Elements between the matrices of the feed-forward part.
    layer_count : :class:`int`
        Number of decoder layers.
    head_count : :class:`int`
        Number of attention heads; divides ``hidden_size`` into heads of even size.
    context_length : :class:`int`
        Most tokens the model can look back on, the one it reads included.
    rope_base : :class:`float`
        Base of the rotary frequencies.
    norm_eps : :class:`float`
        Added to the mean square before its root is taken.

    Raises
    ------
    :exc:`ValueError`
        If a head would not have an even number of elements.
    """

    vocab_size: int = 128
    hidden_size: int = 128
    intermediate_size: int = 512
    layer_count: int = 4
    head_count: int = 4
    context_length: int = 256
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.head_count):
            raise ValueError(
                f"Hidden size must be a multiple of {2 * self.head_count}, twice the number of "
                f"heads, not {self.hidden_size!r}"
            )

    @property
    def head_size(self) -> int:
        """Elements of one attention head."""
        return self.hidden_size // self.head_count

    def to_metadata(self) -> dict[str, str]:
        """Write the dimensions the way a checkpoint stores them: all values are strings."""
        return {name: repr(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Read back what :meth:`to_metadata` wrote; other entries are ignored."""
        # The defaults know which of the fields are integers.
        kinds = {field.name: type(field.default) for field in fields(cls)}
        values: dict[str, Any] = {name: kind(metadata[name]) for name, kind in kinds.items()}
        return cls(**values)


DIMS = ModelDims()
"""What :class:`ModelDims` has where nothing is given."""

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


def tensor_shapes(dims: ModelDims = DIMS) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a checkpoint; those of the matrices are (N, K).

    Parameters
    ----------
    dims : :class:`ModelDims`
        Dimensions of the model.

    Returns
    -------
    :class:`dict`
        Shape under the tensor's name, in the order in which the model uses them.
    """
    size = dims.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (dims.vocab_size, size)}
    for layer in range(dims.layer_count):
        prefix = f"model.layers.{layer}"
        shapes[f"{prefix}.input_layernorm.weight"] = (size,)
        for name in _ATTENTION:
            shapes[f"{prefix}.self_attn.{name}.weight"] = (size, size)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (size,)
        for name in _MLP:
            wide = (dims.intermediate_size, size)
            shapes[f"{prefix}.mlp.{name}.weight"] = wide[::-1] if name == "down_proj" else wide
    shapes["model.norm.weight"] = (size,)
    shapes["lm_head.weight"] = (dims.vocab_size, size)
    return shapes
