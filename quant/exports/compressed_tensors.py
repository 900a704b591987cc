"""Export to compressed-tensors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .exporter import Exporter, pack_words
from .integer_layer import IntegerLayer

__all__ = ["CompressedTensorsExporter"]


class CompressedTensorsExporter(Exporter):
    """compressed-tensors of the format pack-quantized, words packed without gaps.

    Source
    ------
    compressed-tensors 0.20.0, ``compressors/pack_quantized``.
    """

    name = "compressed-tensors"

    def __init__(self) -> None:
        self._layers: dict[tuple[int, int | None, bool, bool], list[str]] = {}

    def look(self, name: str, layer: IntegerLayer) -> None:
        """Take note of a layer."""
        size = layer.stated_group_size
        if size is not None and layer.columns % size:
            raise ValueError(
                f"Columns must be a multiple of the group size for compressed-tensors, not "
                f"{layer.columns} in groups of {size}"
            )
        scheme = (layer.bits, size, layer.symmetric, layer.ordered)
        self._layers.setdefault(scheme, []).append(name)

    def tensors(self, name: str, layer: IntegerLayer) -> dict[str, npt.NDArray]:
        """Return the tensors of a layer."""
        tensors = {
            f"{name}.weight_packed": pack_words(layer.codes, layer.bits),
            f"{name}.weight_scale": layer.scales,
            f"{name}.weight_shape": np.array(layer.codes.shape, dtype=np.int64),
        }
        if not layer.symmetric:
            words = pack_words(layer.zeros.T, layer.bits).T
            tensors[f"{name}.weight_zero_point"] = np.ascontiguousarray(words)
        if layer.ordered:
            tensors[f"{name}.weight_g_idx"] = layer.groups
        return tensors if layer.bias is None else {**tensors, f"{name}.bias": layer.bias}

    def configurations(self) -> dict[str, Any]:
        """Return the JSON objects beside the tensors."""
        groups = {}
        for (bits, size, symmetric, ordered), names in self._layers.items():
            groups[f"group_{len(groups)}"] = {
                "targets": names,
                "weights": {
                    "num_bits": bits,
                    "type": "int",
                    "symmetric": symmetric,
                    "strategy": "channel" if size is None else "group",
                    "group_size": size,
                    "actorder": "group" if ordered else None,
                },
            }
        config = {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": groups,
            "ignore": [],
        }
        return {"config.json": {"quantization_config": config}}
