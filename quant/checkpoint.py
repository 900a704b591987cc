"""Float checkpoints, read layer by layer."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..formats import widen_bfloat16
from .file_error import FileError
from .float_layer import FloatLayer
from .imports.source import CheckpointSource

__all__ = ["Checkpoint"]

_FLOATS = ("F32", "F16", "BF16")
_DEFAULT = "*.weight"
# Tables of token and position vectors: they are looked up, not multiplied with.
_LOOKED_UP = ("*embed*", "*wte*", "*wpe*")


class Checkpoint:
    """The layers of a safetensors checkpoint of float32, float16 or bfloat16 tensors.

    A layer is a two-dimensional tensor; its name is that of the tensor without a last ``.weight``,
    and the tensor of that name with ``.bias``, if there is one, belongs to it.

    Parameters
    ----------
    path : path or CheckpointSource
        A ``.safetensors`` file, or a folder of them.

    Raises
    ------
    FileError
        If the file is missing, truncated or not safetensors, or there is none in the folder.
    """

    def __init__(self, path: str | Path | CheckpointSource):
        self.source = path if isinstance(path, CheckpointSource) else CheckpointSource(path)
        self.path = self.source.path
        if not self.source.files:
            raise FileError(f"{self.path} has no .safetensors file")

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Names of all tensors, in the order of the file."""
        return self.source.tensor_names

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it.

        Raises
        ------
        FileError
            If there is no such tensor.
        """
        return self.source.entry(tensor).shape

    def select(self, patterns: Sequence[str] | None = None) -> tuple[str, ...]:
        """Choose tensors by name.

        Parameters
        ----------
        patterns : sequence of str, optional
            Shell patterns (``*``, ``?``, ``[…]``), case-sensitive, each for a tensor's or a layer's
            whole name. By default ``*.weight``, without embeddings and whatever else is not
            two-dimensional.

        Returns
        -------
        tuple of str
            Names of two-dimensional tensors, each once, in the order of the file. Vectors, such as
            the biases and norms that ``layers.0.*`` takes in, are passed over.

        Raises
        ------
        :exc:`ValueError`
            If a pattern matches nothing, only vectors, or a tensor of more than two dimensions.
        FileError
            If a chosen tensor is not of a float type that can be quantised.
        """
        if patterns is None:
            chosen = {
                name
                for name in self._matches(_DEFAULT)
                if self._dimensions(name) == 2
                and not any(fnmatchcase(name, table) for table in _LOOKED_UP)
            }
            if not chosen:
                raise ValueError(
                    f"No two-dimensional tensor of {self.path} is named {_DEFAULT}; give a pattern "
                    f"for its names: {self._some_names()}"
                )
        else:
            chosen = {name for pattern in patterns for name in self._matrices(pattern)}
        for name in chosen:
            self._check_float(name)
        return tuple(name for name in self.tensor_names if name in chosen)

    def read(self, tensor: str) -> FloatLayer:
        """Read the layer of a two-dimensional tensor.

        Raises
        ------
        FileError
            If the tensor is not a float matrix or its bias does not fit it.
        """
        weights = self._floats(tensor)
        if weights.ndim != 2:
            raise FileError(_not_a_matrix(tensor, weights.shape))
        name = tensor.removesuffix(".weight")
        if f"{name}.bias" not in self.source.tensors:
            return FloatLayer(name, weights)
        bias = self._floats(f"{name}.bias")
        if bias.shape != weights.shape[:1]:
            raise FileError(
                f"Tensor '{name}.bias' must have shape {weights.shape[:1]}, one number for each "
                f"row of {tensor!r}, not {bias.shape}"
            )
        return FloatLayer(name, weights, bias)

    def layers(self, patterns: Sequence[str] | None = None) -> Iterator[FloatLayer]:
        """Yield the layers of :meth:`select`, one in memory at a time."""
        for tensor in self.select(patterns):
            yield self.read(tensor)

    def _matches(self, pattern: str) -> list[str]:
        return [
            name
            for name in self.tensor_names
            if fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(".weight"), pattern)
        ]

    def _matrices(self, pattern: str) -> list[str]:
        """Return the two-dimensional tensors that a user's pattern matches."""
        matches = self._matches(pattern)
        if not matches:
            raise ValueError(
                f"Pattern {pattern!r} matches no tensor of {self.path}; it has {self._some_names()}"
            )
        found = [name for name in matches if self._dimensions(name) == 2]
        for name in matches:
            if self._dimensions(name) > 2 or not found:
                raise ValueError(_not_a_matrix(name, self.shape(name)))
        return found

    def _dimensions(self, name: str) -> int:
        return len(self.shape(name))

    def _some_names(self) -> str:
        # Matrices first: they are what a pattern should match.
        names = sorted(self.tensor_names, key=lambda name: self._dimensions(name) != 2)
        return (", ".join(names[:6]) or "no tensors") + (", …" if len(names) > 6 else "")

    def _check_float(self, name: str) -> None:
        dtype = self.source.entry(name).dtype
        if dtype not in _FLOATS:
            raise FileError(
                f"Tensor {name!r} of {self.path} has type {dtype}; "
                f"only {', '.join(_FLOATS)} can be quantised"
            )

    def _floats(self, name: str) -> npt.NDArray[np.float32]:
        self._check_float(name)
        file = self.source.tensors[name]
        values = file.read(name)
        if file.entries[name].dtype == "BF16":
            return widen_bfloat16(values)
        return values.astype(np.float32, copy=False)


def _not_a_matrix(name: str, shape: tuple[int, ...]) -> str:
    return f"Tensor {name!r} must be two-dimensional, not of shape {shape}"
