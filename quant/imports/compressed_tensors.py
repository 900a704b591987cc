"""compressed-tensors: the checkpoints of llm-compressor, packed integers and four-bit floats."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix, member
from ..file_error import FileError
from .activation_order import ColumnGroups, order_columns
from .eight_bit_floats import e4m3_scales, e8m0_scales
from .exact_matrix import exact_matrix
from .integer_matrix import integer_matrix
from .nvfp4_matrix import NVFP4_GROUP, nvfp4_matrix
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource
from .unpack import unpack_nibbles, unpack_padded, unpack_stream

__all__ = ["CompressedTensorsImporter"]

_WORD_BITS = 32
_FORMATS = ("pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mixed-precision")
_STRATEGIES = ("group", "tensor_group", "channel", "tensor")
_MXFP4_GROUP = 32


@dataclass(frozen=True)
class _Scheme:
    """What one of the configuration's groups of layers says of their weights.

    ``group_size`` is None for whole rows.
    """

    kind: str
    bits: int
    group_size: int | None


class CompressedTensorsImporter(SafetensorsImporter):
    """compressed-tensors checkpoints of packed weights.

    - ``pack-quantized``, 2 to 8 bits: ``w = weight_scale * (q - zero)`` with ``weight_packed``
      int32 (N, W), codes plus ``2**(bits - 1)`` along the inputs, lowest bits first, and
      ``weight_zero_point`` packed in the same way along the outputs, (W, G). A word has
      ``32 // bits`` whole codes in older checkpoints, and a row is one stream of bits in newer
      ones; which one it is follows from W. ``weight_g_idx`` int32 (K,), if it is there and not
      all -1, is the group of each input. Strategies group, channel and tensor.
    - ``nvfp4-pack-quantized``: two E2M1 codes a byte, the low one first, groups of 16, scale
      ``weight_scale / weight_global_scale`` in float32, E4M3 over float32.
    - ``mxfp4-pack-quantized``: the same codes, groups of 32, ``weight_scale`` uint8 E8M0.

    Scales and quantisers of activations, ``input_*``, ``output_*``, ``k_scale`` and ``v_scale``,
    are not weights and are left out.

    Source
    ------
    compressed-tensors 0.20.0, ``compressors/pack_quantized``, ``nvfp4`` and ``mxfp4``; the older
    words as of 0.12.
    """

    name = "compressed-tensors"
    summary = "compressed-tensors: pack-quantized (2 to 8 bits), NVFP4 and MXFP4"
    marker = ".weight_packed"
    suffixes = (
        ".weight_scale",
        ".weight_zero_point",
        ".weight_g_idx",
        ".weight_shape",
        ".weight_global_scale",
    )

    def __init__(self, source: CheckpointSource):
        super().__init__(source)
        self._schemes = _parse(source)

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether the configuration says so."""
        return source.config.get("quant_method") == "compressed-tensors"

    def size(self, layer: str) -> int:
        """Return a layer's number of weights, for progress, without reading it."""
        rows, width = self.shape(layer + self.marker, ("I32", "U8"), 2)
        if self.source.entry(layer + self.marker).dtype == "U8":
            return rows * 2 * width
        return rows * self._columns(layer, rows)

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer that there is; errors need not name it."""
        name = layer + self.marker
        self.shape(name, ("I32", "U8"), 2)
        if self.source.entry(name).dtype == "U8":
            return self._floats(layer)
        return self._integers(layer)

    def _floats(self, layer: str) -> QuantizedMatrix:
        """Read a layer of E2M1 codes."""
        rows, octets = self.shape(f"{layer}.weight_packed", ("U8",), 2)
        if self.has(f"{layer}.weight_zero_point"):
            raise FileError("Layers of four-bit floats must not have zero-points")
        nvfp4 = self.has(f"{layer}.weight_global_scale")
        size = NVFP4_GROUP if nvfp4 else _MXFP4_GROUP
        wanted = "nvfp4-pack-quantized" if nvfp4 else "mxfp4-pack-quantized"
        if _Scheme(wanted, 4, size) not in self._schemes:
            raise FileError(f"The configuration has no {wanted} in groups of {size}")
        name, shape = f"{layer}.weight_scale", (rows, -(-2 * octets // size))
        packed = self.array(f"{layer}.weight_packed", ("U8",), (rows, octets))
        codes, bias = unpack_nibbles(packed, high_first=False), self.bias(layer, rows)
        if not nvfp4:
            scales = e8m0_scales(self.array(name, ("U8", "F8_E8M0"), shape), name)
            return exact_matrix(
                codes=codes,
                members=member("float4_e2m1"),
                group_size=size,
                scales=scales,
                bias=bias,
            )
        matrix, as_defined = nvfp4_matrix(
            codes,
            scales=e4m3_scales(self.array(name, ("F8_E4M3",), shape), name),
            factor=self._global_scale(f"{layer}.weight_global_scale"),
            divides=True,
            bias=bias,
        )
        if not as_defined:
            self.note_apart(layer)
        return matrix

    def _global_scale(self, name: str) -> np.float32:
        shape = self.source.entry(name).shape
        value = self.floats(name, shape if shape in ((), (1,)) else (1,)).reshape(-1)[0]
        if value == 0:
            raise FileError(f"Tensor {name!r} must not be zero; scales are divided by it")
        return value

    def _integers(self, layer: str) -> QuantizedMatrix:
        rows, width = self.shape(f"{layer}.weight_packed", ("I32",), 2)
        columns = self._columns(layer, rows)
        scale_shape = self._scale_shape(layer, rows)
        scheme = self._scheme(layer, columns, width, scale_shape)
        bits = scheme.bits
        parts = self._groups(layer, scheme, columns, scale_shape[1])

        zero_name, zero_words = f"{layer}.weight_zero_point", None
        if self.has(zero_name) and self.source.entry(zero_name).dtype == "I32":
            zero_words = self.shape(zero_name, ("I32",), 2)[0]
        unpack = _layout(bits, (columns, width), None if zero_words is None else (rows, zero_words))
        packed = self.array(f"{layer}.weight_packed", ("I32",), (rows, width))
        codes = unpack(packed, bits, columns)
        if parts.order is not None:
            codes = codes[:, parts.order]

        zeros = None
        if zero_words is not None:
            packed = self.array(zero_name, ("I32",), (zero_words, scale_shape[1]))
            zeros = unpack(np.ascontiguousarray(packed.T), bits, rows).T
        elif self.has(zero_name):
            zeros = self._plain_zeros(zero_name, bits, scale_shape)
        scales = self.floats(
            f"{layer}.weight_scale", self.source.entry(f"{layer}.weight_scale").shape
        )
        scales = np.broadcast_to(scales.reshape(-1, scale_shape[1]), (rows, scale_shape[1]))
        return integer_matrix(
            codes,
            bits=bits,
            group_size=parts.size,
            scales=scales[:, parts.groups],
            zeros=None if zeros is None else np.ascontiguousarray(zeros[:, parts.groups]),
            column_order=parts.order,
            bias=self.bias(layer, rows),
        )

    def _columns(self, layer: str, rows: int) -> int:
        """Return K, that of ``weight_shape``, checked against what is packed."""
        name = f"{layer}.weight_shape"
        shape = self.array(name, ("I64", "I32"), (2,)).tolist()
        width = self.source.entry(f"{layer}.weight_packed").shape[1]
        # Two bits are the least that a code takes.
        if shape[0] != rows or not 1 <= shape[1] <= width * _WORD_BITS // 2:
            raise FileError(
                f"Tensor {name!r} must be the rows and columns of {rows} x {width} packed words, "
                f"not {shape}"
            )
        return shape[1]

    def _scale_shape(self, layer: str, rows: int) -> tuple[int, int]:
        """Return the shape of the scales as rows and groups; rows are 1 for the strategy tensor."""
        name = f"{layer}.weight_scale"
        shape = self.source.entry(name).shape
        if shape in ((), (1,), (1, 1)):
            return (1, 1)
        if shape == (rows,):
            return (rows, 1)
        if len(shape) != 2 or shape[0] != rows or not shape[1]:
            raise FileError(f"Tensor {name!r} must have {rows} rows, or one number, not {shape}")
        return (shape[0], shape[1])

    def _scheme(
        self, layer: str, columns: int, width: int, scale_shape: tuple[int, int]
    ) -> _Scheme:
        """Find the one scheme of the configuration that the tensors' shapes go with."""
        found = {
            scheme
            for scheme in self._schemes
            if scheme.kind == "pack-quantized"
            and width in (_stream_words(columns, scheme.bits), _padded_words(columns, scheme.bits))
            and scale_shape[1] == -(-columns // (scheme.group_size or columns))
        }
        if len(found) != 1:
            known = ", ".join(
                f"{item.bits} bits in groups of {item.group_size or 'a row'}"
                for item in sorted(found or self._schemes, key=str)
            )
            raise FileError(
                f"Its {width} words and {scale_shape[1]} scales a row of {columns} weights go with "
                f"{'more than one' if found else 'none'} of the configuration's: {known}"
            )
        return found.pop()

    def _groups(self, layer: str, scheme: _Scheme, columns: int, groups: int) -> ColumnGroups:
        name = f"{layer}.weight_g_idx"
        if self.has(name):
            group_of = self.array(name, ("I32",), (columns,))
            if not (group_of == -1).all():  # what it is initialised to
                return order_columns(group_of, groups, name)
        return ColumnGroups(None, scheme.group_size or columns, np.arange(groups))

    def _plain_zeros(
        self, name: str, bits: int, scale_shape: tuple[int, int]
    ) -> npt.NDArray[np.uint8]:
        """Read zero-points that are not packed, as codes."""
        shape = self.source.entry(name).shape
        count = scale_shape[0] * scale_shape[1]
        if int(np.prod(shape, dtype=object)) != count:
            raise FileError(f"Tensor {name!r} must have {count} zero-points, not shape {shape}")
        half = 1 << (bits - 1)
        zeros = self.array(name, ("I8",), shape).astype(np.int16).reshape(scale_shape) + half
        if zeros.min() < 0 or zeros.max() >= 2 * half:
            raise FileError(f"Tensor {name!r} must be within {-half} to {half - 1}")
        rows = self.source.entry(name.removesuffix("_zero_point") + "_packed").shape[0]
        return np.broadcast_to(zeros.astype(np.uint8), (rows, scale_shape[1]))


def _stream_words(count: int, bits: int) -> int:
    return -(-count * bits // _WORD_BITS)


def _padded_words(count: int, bits: int) -> int:
    return -(-count // (_WORD_BITS // bits))


def _layout(bits: int, *counted: tuple[int, int] | None):
    """Choose how words are unpacked from numbers of codes and of the words that they take."""
    if _WORD_BITS % bits == 0:
        return unpack_stream
    known = [item for item in counted if item is not None]
    stream = all(words == _stream_words(count, bits) for count, words in known)
    padded = all(words == _padded_words(count, bits) for count, words in known)
    if stream and not padded:
        return unpack_stream
    if padded and not stream:
        return unpack_padded
    if padded and all(count <= _WORD_BITS // bits for count, _ in known):
        return unpack_stream  # within the first word both are the same
    raise FileError(
        f"Rows of {known[0][0]} codes of {bits} bits in {known[0][1]} words could be packed with "
        "and without gaps, or not at all; only longer rows say which"
    )


def _parse(source: CheckpointSource) -> set[_Scheme]:
    """Return what the configuration says of the weights of each group of layers."""
    config = source.config
    _check_format(source, config.get("format", "pack-quantized"))
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise FileError(f"The configuration of {source.path} must have config_groups")
    schemes = set()
    for name, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if weights is None:  # of activations only
            continue
        kind = group.get("format") or config.get("format", "pack-quantized")
        _check_format(source, kind)
        schemes.add(_scheme_of(weights, name, kind))
    return schemes


def _check_format(source: CheckpointSource, name: Any) -> None:
    if name not in _FORMATS:
        raise ValueError(
            f"{source.path} is a compressed-tensors checkpoint of format {name!r}; Lutra imports "
            f"{', '.join(_FORMATS)}"
        )


def _scheme_of(weights: Any, name: str, kind: str) -> _Scheme:
    if not isinstance(weights, dict):
        raise FileError(f"The weights of config group {name!r} must be an object")
    bits = weights.get("num_bits")
    size = weights.get("group_size")
    strategy = weights.get("strategy") or ("group" if size else "channel")
    if strategy not in _STRATEGIES:
        raise FileError(
            f"The strategy of config group {name!r} must be one of {', '.join(_STRATEGIES)}, not "
            f"{strategy!r}"
        )
    if type(bits) is not int or not 2 <= bits <= 8:
        raise FileError(f"num_bits of config group {name!r} must be in 2..8, not {bits!r}")
    if strategy in ("channel", "tensor") or size == -1:
        return _Scheme(kind, bits, None)
    if type(size) is not int or size < 1:
        raise FileError(
            f"group_size of config group {name!r} must be a positive integer, not {size!r}"
        )
    return _Scheme(kind, bits, size)
