"""The model file, read layer by layer."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..formats import Outliers, QuantizedMatrix
from .file_error import FileError
from .layer_record import LayerRecord
from .model_writer import MODEL_VERSION
from .parse_recipe import parse_recipe
from .recipe_hash import recipe_hash
from .tensor_file import TensorFile

__all__ = ["ModelFile"]

_T = TypeVar("_T")
_OUTLIERS = ("outliers.row_pointers", "outliers.columns", "outliers.values")
_WEIGHT_TENSORS = ("codes", "format_ids", "scales", "zeros", "row_scales", *_OUTLIERS)


class ModelFile:
    """Quantised layers of a model file; only those asked for are read.

    Parameters
    ----------
    path : path
        What :class:`ModelWriter` wrote.

    Attributes
    ----------
    path : Path
    layers : tuple of str
        Names, in the order in which they were written.
    recipe : Recipe, Mixture, LayeredRecipe or None
        How the layers were quantised.
    allocations : list of dict
        What allocators decided: layers, budget, what of it was spent, loss and bound.
    recipe_sha256, calibration_sha256 : str or None
        :func:`recipe_hash` of the recipe, and hash of the calibration data; None where the file has
        none.

    Raises
    ------
    FileError
        If the file is missing, truncated, not safetensors, not a model file, of a newer version
        than this Lutra reads, or describes its layers wrongly.
    """

    def __init__(self, path: str | Path):
        self._file = TensorFile(path)
        self.path = self._file.path
        self._check_version()
        recipe = self._parse("lutra_recipe", str)
        self.recipe = None if recipe == "null" else self._parse("lutra_recipe", parse_recipe)
        self.allocations: list[dict[str, Any]] = []
        if "lutra_allocations" in self._file.metadata:
            self.allocations = self._parse("lutra_allocations", _parse_allocations)
        self.recipe_sha256 = self._file.metadata.get("lutra_recipe_sha256")
        self.calibration_sha256 = self._file.metadata.get("lutra_calibration_sha256")
        self._records = self._parse("lutra_layers", _parse_layers)
        self.layers = tuple(self._records)

    def record(self, name: str) -> LayerRecord:
        """Return a layer's shape and formats.

        Raises
        ------
        :exc:`ValueError`
            If there is no such layer; the sentence lists some that there are.
        FileError
            If its sizes are not those of its tensors.
        """
        if name not in self._records:
            some = ", ".join(self.layers[:8]) + (", …" if len(self.layers) > 8 else "")
            raise ValueError(f"{self.path} has no layer {name!r}; it has {some}")
        record = self._records[name]
        # Before anything of these sizes is made, which a damaged file may say anything of.
        groups = (record.rows, record.groups, record.scale_count)
        self._check_shape(f"{name}.scales", record.scale_type, groups)
        self._check_shape(f"{name}.codes", "uint8", (record.rows, record.packed_bytes))
        return record

    def layer(self, name: str) -> QuantizedMatrix:
        """Read a layer.

        Raises
        ------
        :exc:`ValueError`
            If there is no such layer.
        FileError
            If its tensors are missing or not as the file describes them.
        """
        record = self.record(name)
        groups = (record.rows, record.groups, record.scale_count)
        packed = (record.rows, record.packed_bytes)
        scales = self._tensor(name, "scales", record.scale_type, groups)
        bias = None
        if f"{name}.bias" in self._file.entries:
            bias = self._tensor(name, "bias", np.float32, (record.rows,))
        order = None
        if f"{name}.column_order" in self._file.entries:
            order = self._tensor(name, "column_order", np.int32, (record.columns,))
        try:
            return QuantizedMatrix(
                members=record.members,
                group_size=record.group_size,
                codes=record.unpack(self._tensor(name, "codes", np.uint8, packed)),
                format_ids=self._group_bytes(name, "format_ids", len(record.members) > 1),
                scales=scales.astype(np.int32),
                zeros=self._group_bytes(name, "zeros", record.has_zeros),
                row_scales=self._tensor(name, "row_scales", np.float32, (record.rows,)),
                scale_width=record.scale_width,
                bias=bias,
                column_order=order,
                outliers=self._outliers(name, record.rows),
            )
        except FileError:
            raise
        except ValueError as error:
            raise FileError(f"Layer {name!r} of {self.path} is damaged: {error}") from error

    def stored_bytes(self, name: str) -> int:
        """Return the bytes of a layer's tensors, its bias left out."""
        self.record(name)
        entries = (self._file.entries.get(f"{name}.{tensor}") for tensor in _WEIGHT_TENSORS)
        return sum(entry.end - entry.start for entry in entries if entry is not None)

    def bits_per_weight(self, name: str) -> float:
        """Return the stored bits of one weight, with format ids, scales and zero-points."""
        record = self.record(name)
        return 8 * self.stored_bytes(name) / (record.rows * record.columns)

    def group_counts(self, name: str) -> dict[str, int]:
        """Return how many groups use each format, by the format's name."""
        record = self.record(name)
        format_ids = self._group_bytes(name, "format_ids", len(record.members) > 1)
        counts = np.bincount(format_ids.ravel(), minlength=len(record.members))
        return {item.name: int(n) for item, n in zip(record.members, counts, strict=False)}

    def weight_counts(self, name: str) -> dict[str, int]:
        """Return how many weights use each format, by the format's name."""
        record = self.record(name)
        format_ids = self._group_bytes(name, "format_ids", len(record.members) > 1)
        lengths = np.full(record.groups, record.group_size, dtype=np.int64)
        lengths[-1] = record.columns - (record.groups - 1) * record.group_size
        return {
            item.name: int(((format_ids == index) * lengths).sum())
            for index, item in enumerate(record.members)
        }

    def code_bits(self, name: str) -> float:
        """Return the mean code bits of a weight, each counted at its own format's width."""
        widths = {item.name: item.code_width for item in self.record(name).members}
        counts = self.weight_counts(name)
        return sum(widths[item] * count for item, count in counts.items()) / sum(counts.values())

    def verify(self) -> None:
        """Compare the recorded hashes with the data and the recipe.

        Raises
        ------
        FileError
            If they differ.
        """
        digest = hashlib.sha256()
        for piece in self._file.data():
            digest.update(piece)
        if digest.hexdigest() != self._parse("lutra_sha256", str):
            raise FileError(f"{self.path} is damaged: its data do not have the recorded SHA-256")
        text = self._file.metadata["lutra_recipe"]
        if self.recipe_sha256 not in (None, recipe_hash(text)):
            raise FileError(f"{self.path} is damaged: its recipe has not the recorded SHA-256")

    def _check_version(self) -> None:
        text = self._file.metadata.get("lutra_model_version")
        if text is None:
            raise FileError(
                f"{self.path} is a safetensors file but not a Lutra model file; "
                "make one with `lutra quantize`"
            )
        if not text.isdecimal() or int(text) < 1:
            raise FileError(f"{self.path} is damaged: model file version {text!r} is no number")
        if int(text) > MODEL_VERSION:
            raise FileError(
                f"{self.path} is a model file of version {text}, and this Lutra reads up to "
                f"version {MODEL_VERSION}; update Lutra"
            )

    def _parse(self, key: str, parser: Callable[[str], _T]) -> _T:
        try:
            return parser(self._file.metadata[key])
        except KeyError:
            raise FileError(f"{self.path} is damaged: its metadata lack {key}") from None
        except ValueError as error:
            raise FileError(
                f"{self.path} has metadata {key} that are not valid: {error}"
            ) from error

    def _tensor(
        self, layer: str, tensor: str, dtype: npt.DTypeLike, shape: tuple[int, ...]
    ) -> npt.NDArray:
        array = self._file.read(f"{layer}.{tensor}")
        if array.dtype != dtype or array.shape != shape:
            raise FileError(
                f"Tensor '{layer}.{tensor}' of {self.path} must be {np.dtype(dtype).name} of shape "
                f"{shape}, not {array.dtype} of shape {array.shape}"
            )
        return array

    def _check_shape(self, tensor: str, dtype: str, shape: tuple[int, ...]) -> None:
        found = self._file.entry(tensor).shape
        if found != shape:
            raise FileError(
                f"Tensor {tensor!r} of {self.path} must be {dtype} of shape {shape}, not of shape "
                f"{found}"
            )

    def _outliers(self, layer: str, rows: int) -> Outliers | None:
        entries = [self._file.entries.get(f"{layer}.{tensor}") for tensor in _OUTLIERS]
        if not any(entries):
            return None
        count = next((entry.shape[:1] for entry in entries[1:] if entry is not None), (0,))
        shapes = ((rows + 1,), count, count)
        dtypes = (np.int64, np.int32, np.int64)
        return Outliers(
            *(
                self._tensor(layer, tensor, dtype, shape)
                for tensor, dtype, shape in zip(_OUTLIERS, dtypes, shapes, strict=True)
            )
        )

    def _group_bytes(self, layer: str, tensor: str, stored: bool) -> npt.NDArray[np.uint8]:
        """Read one byte a group; zeros where the layer does not store them."""
        record = self._records[layer]
        shape = (record.rows, record.groups)
        if not stored:
            return np.zeros(shape, dtype=np.uint8)
        return self._tensor(layer, tensor, np.uint8, shape)


def _parse_layers(text: str) -> dict[str, LayerRecord]:
    layers = json.loads(text)
    if not isinstance(layers, dict):
        raise ValueError("layers must be an object")
    return {name: LayerRecord.from_json(fields) for name, fields in layers.items()}


def _parse_allocations(text: str) -> list[dict[str, Any]]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError("allocations must be a list of objects")
    return found
