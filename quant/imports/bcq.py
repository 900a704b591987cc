"""Binary-coding checkpoints, of AnyBCQ and in the layout of LUT-GEMM."""

import re
from functools import cached_property

import numpy as np

from ...formats import QuantizedMatrix, member
from ..file_error import FileError
from .exact_matrix import exact_matrix
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource

__all__ = ["BcqImporter"]

_WORD_BITS = 32
_MOST = 4  # planes of the catalogue's widest format
_ALPHA = re.compile(r"\.alpha_(\d{1,2})$")


class BcqImporter(SafetensorsImporter):
    """Layers of signs with scales: AnyBCQ at one of its precisions, or LUT-GEMM.

    ``w = sum_i alpha[g, i, n] * b_i + beta[g, n]``, every ``b_i`` -1 or +1: ``qweight`` int32
    (K / 32, planes, N) has a set bit for +1, lowest bits first along the inputs.

    - AnyBCQ has ``alpha_2``, ``beta_2`` and so on, (G, bits, N) and (G, N), for each precision,
      which uses the first planes. Unless one is chosen, the largest is read. ``q_bias`` is of none.
    - LUT-GEMM has ``alpha`` and, not always, ``q_bias`` of the same shapes.

    Source
    ------
    AnyBCQ, anybcq/inference/AnyBCQLinear.py and anybcq.cu; LUT-GEMM, nQWeight_fp16.h.
    """

    name = "bcq"
    summary = f"AnyBCQ and LUT-GEMM, 1 to {_MOST} planes of signs"
    marker = ".qweight"
    suffixes = (
        ".alpha",
        ".q_bias",
        *(f".{part}_{bits}" for bits in range(1, 17) for part in ("alpha", "beta")),
    )

    def __init__(self, source: CheckpointSource):
        super().__init__(source)
        self._precision = 0

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether there are tensors named as these name them."""
        names = source.tensor_names
        return any(name.endswith(".alpha") or _ALPHA.search(name) for name in names) and any(
            name.endswith(cls.marker) and len(source.entry(name).shape) == 3 for name in names
        )

    @cached_property
    def precisions(self) -> tuple[int, ...]:
        """Precisions that every layer has, rising; empty for LUT-GEMM's layout."""
        found: dict[str, set[int]] = {layer: set() for layer in self.layers}
        for name in self.source.tensor_names:
            match = _ALPHA.search(name)
            if match and name[: match.start()] in found:
                found[name[: match.start()]].add(int(match[1]))
        return tuple(sorted(set.intersection(*found.values()))) if found else ()

    def choose_precision(self, bits: int) -> None:
        """Read layers at one of the checkpoint's precisions.

        Raises
        ------
        :exc:`ValueError`
            If it does not have that one.
        """
        if not self.precisions:
            super().choose_precision(bits)
        if bits not in self.precisions:
            listed = ", ".join(map(str, self.precisions))
            raise ValueError(f"The precisions of {self.source.path} are {listed}, not {bits}")
        self._precision = bits

    def is_layer(self, tensor: str) -> bool:
        """Whether a tensor is one of planes."""
        return len(self.source.entry(tensor).shape) == 3

    def size(self, layer: str) -> int:
        """Return a layer's number of weights."""
        words, _, rows = self.shape(f"{layer}.qweight", ("I32",), 3)
        return words * _WORD_BITS * rows

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer."""
        name = f"{layer}.qweight"
        words, planes, rows = self.shape(name, ("I32",), 3)
        bits = self._bits(planes)
        signs, offset = (
            (f"alpha_{bits}", f"beta_{bits}") if self.precisions else ("alpha", "q_bias")
        )
        groups, columns = self._groups(f"{layer}.{signs}", words * _WORD_BITS)
        alphas = self.floats(f"{layer}.{signs}", (groups, bits, rows))
        scales = [alphas.transpose(2, 0, 1)]
        if self.precisions or self.has(f"{layer}.{offset}"):
            scales.append(self.floats(f"{layer}.{offset}", (groups, rows)).T[:, :, None])
        packed = self.array(name, ("I32",), (words, planes, rows))
        codes = np.zeros((rows, columns), dtype=np.uint8)
        for plane in range(bits):
            octets = np.ascontiguousarray(packed[:, plane].T).astype("<i4").view(np.uint8)
            codes |= np.unpackbits(octets, axis=1, bitorder="little") << np.uint8(plane)
        return exact_matrix(
            codes=codes,
            members=member(f"bcq{bits}{'_asym' * (len(scales) > 1)}"),
            group_size=columns // groups,
            scales=np.concatenate(scales, axis=2),
            bias=self.bias(layer, rows),
        )

    def _bits(self, planes: int) -> int:
        """Return the planes to read."""
        bits = self._precision or (self.precisions[-1] if self.precisions else planes)
        if bits > planes:
            raise FileError(f"There are {planes} planes of signs, but scales for {bits}")
        if bits > _MOST:
            raise ValueError(
                f"Lutra has formats of up to {_MOST} planes of signs, not {bits}; choose a smaller "
                f"precision"
            )
        return bits

    def _groups(self, name: str, columns: int) -> tuple[int, int]:
        """Return how many groups a row has, and its columns."""
        groups, _, _ = self.shape(name, ("F16", "BF16", "F32"), 3)
        stated = (self.source.json("config.json") or {}).get("anybcq")
        size = stated.get("group_size", -1) if isinstance(stated, dict) else -1
        if columns % groups or size not in (-1, columns // groups):
            raise FileError(
                f"Tensor {name!r} has {groups} groups for {columns} inputs, which do not fit or "
                f"contradict the configuration's group_size, {size!r}"
            )
        return groups, columns
