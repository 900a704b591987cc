"""BitNet b1.58: ternary weights with one scale."""

import numpy as np

from ...formats import QuantizedMatrix, member
from ..file_error import FileError
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource

__all__ = ["BitNetImporter"]

_SHARE = 4  # codes of a byte
_DIVIDES = {"bitlinear": True, "autobitlinear": False}


class BitNetImporter(SafetensorsImporter):
    """BitNet layers as Transformers packs them.

    ``weight`` uint8 (N / 4, K) has the codes of row ``n`` in bits ``2 * i`` and ``2 * i + 1`` of
    row ``n - i * N / 4``, with ``i = n // (N / 4)``: 0, 1, 2 for -1, 0, +1. ``weight_scale`` is
    one number, by which the configuration's ``linear_class`` divides, ``bitlinear``, or multiplies,
    ``autobitlinear``. The scale of the rows is that number, or its inverse rounded to float32.

    Source
    ------
    Transformers, integrations/bitnet.py.
    """

    name = "bitnet"
    summary = "BitNet b1.58 of Transformers, packed ternary weights"
    marker = ".weight_scale"
    suffixes = (".weight",)

    def __init__(self, source: CheckpointSource):
        super().__init__(source)
        kind = source.config.get("linear_class")
        if not isinstance(kind, str) or kind not in _DIVIDES:
            raise ValueError(
                f"The quantization_config of {source.path} must have a linear_class: 'bitlinear', "
                f"which divides by weight_scale, or 'autobitlinear', which multiplies, not {kind!r}"
            )
        self._divides = _DIVIDES[kind]
        if self._divides:
            self.notes.append(
                "linear_class 'bitlinear' divides by weight_scale: scales of rows are its inverse, "
                "rounded to float32"
            )

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether the configuration says so."""
        return source.config.get("quant_method") == "bitnet"

    def is_layer(self, tensor: str) -> bool:
        """Whether there are packed weights for a scale."""
        name = f"{tensor.removesuffix(self.marker)}.weight"
        return self.has(name) and self.source.entry(name).dtype == "U8"

    def size(self, layer: str) -> int:
        """Return a layer's number of weights."""
        packed, columns = self.shape(f"{layer}.weight", ("U8",), 2)
        return packed * _SHARE * columns

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer."""
        name = f"{layer}.weight"
        packed = self.array(name, ("U8",), self.shape(name, ("U8",), 2))
        parts = [packed >> np.uint8(2 * place) & np.uint8(3) for place in range(_SHARE)]
        stored = np.concatenate(parts)
        if (stored == 3).any():
            raise FileError(f"Tensor {name!r} has codes that are none of -1, 0 and 1")
        rows = len(stored)
        return QuantizedMatrix(
            members=(member("ternary"),),
            group_size=stored.shape[1],
            codes=stored + np.uint8(3) & np.uint8(3),  # two's complement
            format_ids=np.zeros((rows, 1), dtype=np.uint8),
            scales=np.ones((rows, 1, 1), dtype=np.int32),
            zeros=np.zeros((rows, 1), dtype=np.uint8),
            row_scales=np.full(rows, self._scale(f"{layer}{self.marker}"), dtype=np.float32),
            scale_width=1,
            bias=self.bias(layer, rows),
        )

    def _scale(self, name: str) -> np.float32:
        shape = self.source.entry(name).shape
        if shape not in ((), (1,), (1, 1)):
            raise FileError(f"Tensor {name!r} must be one number, not of shape {shape}")
        scale = self.floats(name, shape).reshape(-1)[0]
        if not self._divides:
            return scale
        with np.errstate(divide="ignore", over="ignore"):
            inverse = np.float32(1) / scale
        if not np.isfinite(inverse):
            raise FileError(f"Tensor {name!r} must be a number to divide by, not {float(scale)!r}")
        return inverse
