"""GPTQ: integers along the inputs, with zero-points and, at times, columns in activation order."""

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix
from ..file_error import FileError
from .activation_order import ColumnGroups, order_columns
from .integer_matrix import integer_matrix
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource
from .unpack import unpack_stream

__all__ = ["GptqImporter"]

_WORD_BITS = 32
_BITS = (2, 3, 4, 8)
_VERSIONS = ("gptq", "gptq_v2")


class GptqImporter(SafetensorsImporter):
    """GPTQ checkpoints, version 1 and 2, of 2, 3, 4 and 8 bits.

    ``w = scales[g] * (q - zero)``: ``qweight`` int32 (K * bits / 32, N) has ``q``, lowest bits
    first along the inputs; ``qzeros`` int32 (G, N * bits / 32) the zero-points along the outputs,
    less one in version 1, where 0 is stored as the largest code; ``scales`` (G, N) floats;
    ``g_idx`` int32 (K,) the group of each input, where that is not its place over the group size.

    Bits and groups are taken from the tensors and compared with the configuration, unless that has
    ``dynamic`` choices for single layers.

    Source
    ------
    AutoGPTQ 0.7.1, ``qlinear_cuda``; GPTQModel 7.7.0, ``convert_gptq_v1_to_v2_format_module``.
    """

    name = "gptq"
    summary = "GPTQ v1 and v2, 2, 3, 4 and 8 bits, also with act-order"
    marker = ".qweight"
    suffixes = (".qzeros", ".scales", ".g_idx")

    def __init__(self, source: CheckpointSource):
        super().__init__(source)
        config = source.config
        version = config.get("checkpoint_format", config.get("format", "gptq"))
        if version not in _VERSIONS:
            raise ValueError(
                f"{source.path} is a GPTQ checkpoint of format {version!r}; Lutra imports "
                f"{' and '.join(_VERSIONS)}"
            )
        self._zeros_less_one = version == "gptq"

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether the configuration says so."""
        return source.config.get("quant_method") == "gptq" or (
            "quant_method" not in source.config
            and "desc_act" in source.config
            and any(name.endswith(cls.marker) for name in source.tensor_names)
        )

    def size(self, layer: str) -> int:
        """Return a layer's number of weights, for progress, without reading it."""
        rows, columns, _, _ = self._sizes(layer)
        return rows * columns

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer that there is; errors need not name it."""
        rows, columns, groups, bits = self._sizes(layer)
        parts = self._groups(layer, columns, groups)
        words = self.array(f"{layer}.qweight", ("I32",), (columns * bits // _WORD_BITS, rows))
        codes = unpack_stream(np.ascontiguousarray(words.T), bits, columns)
        if parts.order is not None:
            codes = codes[:, parts.order]
        packed = self.array(f"{layer}.qzeros", ("I32",), (groups, rows * bits // _WORD_BITS))
        zeros = unpack_stream(packed, bits, rows)
        if self._zeros_less_one:
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << bits) - 1)
        scales = self.floats(f"{layer}.scales", (groups, rows))
        return integer_matrix(
            codes,
            bits=bits,
            group_size=parts.size,
            scales=_by_row(scales, parts),
            zeros=_by_row(zeros, parts),
            column_order=parts.order,
            bias=self.bias(layer, rows),
        )

    def _sizes(self, layer: str) -> tuple[int, int, int, int]:
        """Return rows, columns, groups and bits, from shapes."""
        words, rows = self.shape(f"{layer}.qweight", ("I32",), 2)
        groups, zero_words = self.shape(f"{layer}.qzeros", ("I32",), 2)
        bits, rest = divmod(zero_words * _WORD_BITS, rows)
        if rest or bits not in _BITS:
            raise FileError(
                f"Tensor '{layer}.qzeros' has {zero_words} words for {rows} outputs, which are not "
                "2, 3, 4 or 8 bits each"
            )
        if words * _WORD_BITS % bits:
            raise FileError(
                f"Tensor '{layer}.qweight' has {words} words an output, which are not whole codes "
                f"of {bits} bits"
            )
        config = self.source.config
        if config.get("bits", bits) != bits and not config.get("dynamic"):
            raise FileError(
                f"Tensor '{layer}.qzeros' has {bits} bits for each output, and the configuration "
                f"says {config['bits']!r}"
            )
        return rows, words * _WORD_BITS // bits, groups, bits

    def _groups(self, layer: str, columns: int, groups: int) -> ColumnGroups:
        name = f"{layer}.g_idx"
        if self.has(name):
            return order_columns(self.array(name, ("I32",), (columns,)), groups, name)
        size = self.source.config.get("group_size", -1)
        if size == -1:
            size = columns
        if type(size) is not int or size < 1 or -(-columns // size) != groups:
            raise FileError(
                f"There are {groups} groups of zero-points for {columns} inputs, which are not "
                f"groups of {size!r}, and there is no g_idx"
            )
        return ColumnGroups(order=None, size=size, groups=np.arange(groups))


def _by_row(per_group: npt.NDArray, parts: ColumnGroups) -> npt.NDArray:
    """Turn (G, N) of the checkpoint's groups into (N, G) of the matrix's."""
    return np.ascontiguousarray(per_group[parts.groups].T)
