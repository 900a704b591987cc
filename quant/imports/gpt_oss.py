"""MXFP4 experts of gpt-oss."""

from functools import cached_property

import numpy as np

from ...formats import QuantizedMatrix, member
from .eight_bit_floats import e8m0_scales
from .exact_matrix import exact_matrix
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource
from .unpack import unpack_nibbles

__all__ = ["GptOssImporter"]

_GROUP = 32


class GptOssImporter(SafetensorsImporter):
    """Checkpoints of gpt-oss, whose experts are MXFP4.

    ``stem_blocks`` uint8 (E, N, K / 32, 16) has two E2M1 codes a byte, the low one first;
    ``stem_scales`` uint8 (E, N, K / 32) are E8M0, and ``stem_bias`` is (E, N). Expert ``e`` is the
    layer ``stem.experte``, its rows as they are: those of ``gate_up_proj`` take turns.

    Source
    ------
    openai/gpt-oss, ``gpt_oss/torch/weights.py``.
    """

    name = "gpt-oss"
    summary = "gpt-oss: MXFP4 blocks, each expert a layer"
    marker = "_blocks"
    suffixes = ("_scales", "_bias")

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether there are blocks with scales."""
        if source.config.get("quant_method", "mxfp4") != "mxfp4":
            return False
        return any(
            name.endswith(cls.marker)
            and name.removesuffix(cls.marker) + "_scales" in source.tensors
            for name in source.tensor_names
        )

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the experts, in the order of the files."""
        return tuple(self._experts)

    @cached_property
    def _experts(self) -> dict[str, tuple[str, int]]:
        """The stem and the number of each expert, by the layer's name."""
        found = {}
        for tensor in self.source.tensor_names:
            if tensor.endswith(self.marker):
                stem = tensor.removesuffix(self.marker)
                # Every expert has bytes in the file, so this is no longer than the file.
                for expert in range(self.shape(tensor, ("U8",), 4)[0]):
                    found[f"{stem}.expert{expert}"] = (stem, expert)
        return found

    def tensors(self, layer: str) -> tuple[str, ...]:
        """Return the names of the tensors that a layer is a part of."""
        stem = self._experts[layer][0]
        names = (stem + suffix for suffix in (self.marker, *self.suffixes))
        return tuple(name for name in names if self.has(name))

    def size(self, layer: str) -> int:
        """Return a layer's number of weights, for progress, without reading it."""
        _, rows, groups, _ = self.shape(self._experts[layer][0] + self.marker, ("U8",), 4)
        return rows * groups * _GROUP

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer that there is; errors need not name it."""
        stem, expert = self._experts[layer]
        count, rows, groups, _ = self.shape(stem + self.marker, ("U8",), 4)
        self.check(stem + self.marker, ("U8",), (count, rows, groups, _GROUP // 2))
        self.check(f"{stem}_scales", ("U8", "F8_E8M0"), (count, rows, groups))
        part = slice(expert, expert + 1)
        codes = unpack_nibbles(self.source.read(stem + self.marker, part), high_first=False)
        scales = e8m0_scales(self.source.read(f"{stem}_scales", part)[0], f"{stem}_scales")
        bias = (
            self.floats(f"{stem}_bias", (count, rows))[expert] if self.has(f"{stem}_bias") else None
        )
        return exact_matrix(
            codes=codes.reshape(rows, -1),
            members=member("float4_e2m1"),
            group_size=_GROUP,
            scales=scales,
            bias=None if bias is None else np.ascontiguousarray(bias),
        )
