"""Import of llama.cpp's checkpoints, GGUF."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix, member, widen_bfloat16
from ..file_error import FileError
from .exact_matrix import exact_matrix
from .gguf_blocks import BLOCK_TYPES
from .gguf_file import GgufFile, GgufTensor
from .gguf_types import GGUF_TYPES
from .importer import Importer
from .source import CheckpointSource

__all__ = ["GgufImporter"]

_MAGIC = b"GGUF"
_SHARD = re.compile(r"(?P<stem>.*)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf")
_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_PLAIN = {*_FLOATS, "F64", "I8", "I16", "I32", "I64"}  # neither blocks nor scales
_WEIGHT, _BIAS = ".weight", ".bias"
# Tables of vectors that are looked up. Without an output layer, that of tokens is one as well.
_TOKENS, _OUTPUT = "token_embd.weight", "output.weight"
_LOOKED_UP = ("per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")
_WEIGHTS_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class _Layer:
    """A matrix of a tensor: the whole, or one of the experts that it stacks."""

    tensor: str
    file: GgufFile
    entry: GgufTensor
    expert: int

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.entry.shape[-2:]
        return rows, columns


class GgufImporter(Importer):
    """A GGUF file, or all shards of one.

    A layer is a matrix of a quantised type, named as in the file without a last ``.weight``; of
    stacked experts each is a layer of its own, as ``.expert0`` and so on. Rows are in the file's
    order, which for the queries and keys of Llama models is that of llama.cpp.

    Source
    ------
    GGUF specification, ggml/docs/gguf.md; types: :data:`BLOCK_TYPES`.
    """

    name = "gguf"
    summary = f"llama.cpp: {', '.join(BLOCK_TYPES)}"

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether the file begins as GGUF files do."""
        return source.head.startswith(_MAGIC)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the matrices of quantised types."""
        return tuple(self._layers)

    def size(self, layer: str) -> int:
        """Return a layer's number of weights."""
        rows, columns = self._layers[layer].shape
        return rows * columns

    def tensors(self, layer: str) -> tuple[str, ...]:
        """Return the tensor that has a layer, and its bias."""
        found = self._layers[layer]
        bias = _bias_name(found.tensor)
        return (found.tensor, bias) if bias in found.file.tensors else (found.tensor,)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the tensors that are of no layer."""
        used = {tensor for layer in self.layers for tensor in self.tensors(layer)}
        return tuple(name for file in self._files for name in file.tensors if name not in used)

    @property
    def other_files(self) -> tuple[Path, ...]:
        """The shards that were not named."""
        return tuple(file.path for file in self._files if file.path != self.source.path)

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer."""
        found = self._layers[layer]
        name = found.entry.type_name
        if name not in BLOCK_TYPES:
            raise FileError(
                f"Tensor {found.tensor!r} has type {name}, which is not imported; types that are: "
                f"{', '.join(BLOCK_TYPES)}"
            )
        kind = BLOCK_TYPES[name]
        codes, scales = _read_blocks(found)
        finite = np.isfinite(scales).all(axis=(1, 2))
        if not finite.all():
            raise FileError(
                f"Tensor {found.tensor!r} must have finite scales; row {int(finite.argmin())} has "
                "NaN or infinity"
            )
        number_format = member(kind.format)
        if kind.format == "ternary" and (codes == 2).any():
            raise FileError(f"Tensor {found.tensor!r} has codes that are none of -1, 0 and 1")
        return exact_matrix(
            codes=codes,
            members=number_format,
            group_size=kind.group_size,
            scales=scales,
            bias=_read_bias(found),
        )

    @cached_property
    def _files(self) -> tuple[GgufFile, ...]:
        first = GgufFile(self.source.path)
        count = first.metadata.get("split.count", 1)
        if count == 1:
            return (first,)
        match = _SHARD.fullmatch(first.path.name)
        if match is None or type(count) is not int or int(match["count"]) != count:
            raise FileError(
                f"{first.path} is one of {count!r} shards; its name must say so, such as "
                f"model-00001-of-00003.gguf for the first of three"
            )
        folder = Path(first.path.parent)
        names = (f"{match['stem']}-{index + 1:05}-of-{count:05}.gguf" for index in range(count))
        return tuple(GgufFile(folder / name) for name in names)

    @cached_property
    def _layers(self) -> dict[str, _Layer]:
        found: dict[str, _Layer] = {}
        tensors: dict[str, tuple[GgufFile, GgufTensor]] = {}
        for file in self._files:
            for tensor, entry in file.tensors.items():
                if tensor in tensors:
                    raise FileError(
                        f"Tensor {tensor!r} is both in {tensors[tensor][0].path} and in {file.path}"
                    )
                tensors[tensor] = file, entry
        for tensor, (file, entry) in tensors.items():
            if _is_looked_up(tensor, _OUTPUT in tensors) or entry.type_name in _PLAIN:
                continue
            name = tensor.removesuffix(_WEIGHT)
            if len(entry.shape) == 2 or (len(entry.shape) == 3 and not entry.is_known):
                found[name] = _Layer(tensor, file, entry, 0)
            elif len(entry.shape) == 3:
                for expert in range(entry.shape[0]):
                    found[f"{name}.expert{expert}"] = _Layer(tensor, file, entry, expert)
        return found


def _is_looked_up(tensor: str, has_output: bool) -> bool:
    return tensor in _LOOKED_UP or (tensor == _TOKENS and has_output)


def _bias_name(tensor: str) -> str:
    return tensor.removesuffix(_WEIGHT) + _BIAS


def _read_blocks(layer: _Layer) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Read a layer's codes, (N, K), and scales, (N, G, C)."""
    kind = BLOCK_TYPES[layer.entry.type_name]
    sizes = GGUF_TYPES[layer.entry.type_number]
    rows, columns = layer.shape
    groups = columns // kind.group_size
    codes = np.empty((rows, columns), dtype=np.uint8)
    scales = np.empty((rows, groups, member(kind.format).scale_count), dtype=np.float32)
    step = max(1, _WEIGHTS_AT_ONCE // columns)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        read = layer.file.rows(layer.tensor, layer.expert * rows + start, count)
        some_codes, some_scales = kind.decode(read.reshape(-1, sizes.block_bytes))
        codes[start : start + count] = some_codes.reshape(count, columns)
        scales[start : start + count] = some_scales.reshape(count, groups, -1)
    return codes, scales


def _read_bias(layer: _Layer) -> npt.NDArray[np.float32] | None:
    name = _bias_name(layer.tensor)
    if name not in layer.file.tensors:
        return None
    entry = layer.file.tensors[name]
    shape = (*layer.entry.shape[:-2], layer.shape[0])
    if entry.type_name not in _FLOATS or entry.shape != shape:
        raise FileError(
            f"Tensor {name!r} must be of {', '.join(_FLOATS)} and of shape {shape}, "
            f"not {entry.type_name} of shape {entry.shape}"
        )
    values = layer.file.rows(name, layer.expert, 1).reshape(-1).view(_FLOATS[entry.type_name])
    return widen_bfloat16(values) if entry.type_name == "BF16" else values.astype(np.float32)
