"""AWQ, as its GEMM kernels take it: nibbles of eight outputs interleaved in a word."""

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix
from ..file_error import FileError
from .integer_matrix import integer_matrix
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource
from .unpack import unpack_stream

__all__ = ["AwqImporter"]

_BITS = 4
_SHARE = 8
# Output, of the eight of a word, that each nibble belongs to, from the lowest.
_OUTPUTS = (0, 2, 4, 6, 1, 3, 5, 7)


class AwqImporter(SafetensorsImporter):
    """AWQ checkpoints of version GEMM, 4 bits.

    ``w = scales[g] * (q - zero)``: ``qweight`` int32 (K, N / 8) and ``qzeros`` int32 (G, N / 8)
    hold eight outputs a word, nibble ``i`` that of output ``0, 2, 4, 6, 1, 3, 5, 7``; ``scales``
    (G, N) floats.

    Source
    ------
    AutoAWQ 0.2, ``WQLinear_GEMM``.
    """

    name = "awq"
    summary = "AWQ of version GEMM, 4 bits"
    marker = ".qweight"
    suffixes = (".qzeros", ".scales")

    def __init__(self, source: CheckpointSource):
        super().__init__(source)
        config = source.config
        version = config.get("version", "gemm")
        if not isinstance(version, str) or version.lower() != "gemm":
            raise ValueError(
                f"{source.path} is an AWQ checkpoint of version {version!r}; Lutra imports gemm"
            )
        bits = config.get("bits", config.get("w_bit", _BITS))
        if bits != _BITS:
            raise ValueError(f"{source.path} must be an AWQ checkpoint of 4 bits, not {bits!r}")

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether the configuration says so."""
        return source.config.get("quant_method") == "awq"

    def size(self, layer: str) -> int:
        """Return a layer's number of weights, for progress, without reading it."""
        columns, words = self.shape(f"{layer}.qweight", ("I32",), 2)
        return columns * words * _SHARE

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer that there is; errors need not name it."""
        columns, words = self.shape(f"{layer}.qweight", ("I32",), 2)
        groups, _ = self.shape(f"{layer}.qzeros", ("I32",), 2)
        rows = words * _SHARE
        config = self.source.config
        size = config.get("group_size", config.get("q_group_size", -1))
        if size == -1:
            size = columns
        if type(size) is not int or size < 1 or -(-columns // size) != groups:
            raise FileError(
                f"There are {groups} groups of zero-points for {columns} inputs, which are not "
                f"groups of {size!r}"
            )
        return integer_matrix(
            self._outputs(f"{layer}.qweight", (columns, words)),
            bits=_BITS,
            group_size=size,
            scales=np.ascontiguousarray(self.floats(f"{layer}.scales", (groups, rows)).T),
            zeros=self._outputs(f"{layer}.qzeros", (groups, words)),
            bias=self.bias(layer, rows),
        )

    def _outputs(self, name: str, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Read nibbles as (outputs, first dimension)."""
        nibbles = unpack_stream(self.array(name, ("I32",), shape), _BITS, shape[1] * _SHARE)
        places = np.argsort(_OUTPUTS)  # nibble of each output
        words = nibbles.reshape(*shape, _SHARE)[..., places]
        return np.ascontiguousarray(words.reshape(shape[0], -1).T)
