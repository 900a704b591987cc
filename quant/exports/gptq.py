"""Export to GPTQ."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .exporter import Exporter, pack_words
from .integer_layer import IntegerLayer

__all__ = ["GptqExporter"]

_BITS = (2, 3, 4, 8)
_WORD_BITS = 32


class GptqExporter(Exporter):
    """GPTQ, version 1; version 2 where a zero-point is 0, which version 1 has no code for.

    All layers have the same bits and group size, and whole words of codes.

    Source
    ------
    AutoGPTQ 0.7.1, ``qlinear_cuda``; GPTQModel 7.7.0.
    """

    name = "gptq"

    def __init__(self) -> None:
        self._bits: int | None = None
        self._group_size: int | None = None
        self._version = "gptq"
        self._ordered = False
        self._symmetric = True

    def look(self, name: str, layer: IntegerLayer) -> None:
        """Take note of a layer."""
        if layer.bits not in _BITS:
            raise ValueError(f"Codes must be of 2, 3, 4 or 8 bits for GPTQ, not {layer.bits}")
        # Three bits repeat every three words, that is 32 codes.
        share = _WORD_BITS if layer.bits == 3 else _WORD_BITS // layer.bits
        if layer.columns % share or layer.rows % share:
            raise ValueError(
                f"Rows and columns must be multiples of {share} for GPTQ of {layer.bits} bits, not "
                f"{layer.rows} x {layer.columns}"
            )
        size = layer.stated_group_size or -1
        if self._bits is None:
            self._bits, self._group_size = layer.bits, size
        if (layer.bits, size) != (self._bits, self._group_size):
            raise ValueError(
                f"GPTQ has one number of bits and one group size, {self._bits} and "
                f"{self._group_size} for the layers before, and {layer.bits} and {size} here"
            )
        if not layer.zeros.all():
            self._version = "gptq_v2"
        self._ordered |= layer.ordered
        self._symmetric &= layer.symmetric

    def tensors(self, name: str, layer: IntegerLayer) -> dict[str, npt.NDArray]:
        """Return the tensors of a layer."""
        less = np.uint8(self._version == "gptq")
        tensors = {
            f"{name}.qweight": np.ascontiguousarray(pack_words(layer.codes, layer.bits).T),
            f"{name}.qzeros": pack_words((layer.zeros - less).T, layer.bits),
            f"{name}.scales": np.ascontiguousarray(layer.scales.T),
            f"{name}.g_idx": layer.groups,
        }
        return tensors if layer.bias is None else {**tensors, f"{name}.bias": layer.bias}

    def configurations(self) -> dict[str, Any]:
        """Return the JSON objects beside the tensors."""
        config = {
            "quant_method": "gptq",
            "checkpoint_format": self._version,
            "bits": self._bits,
            "group_size": self._group_size,
            "desc_act": self._ordered,
            "sym": self._symmetric,
        }
        return {"quantize_config.json": config, "config.json": {"quantization_config": config}}
