"""The model file, written layer by layer."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from ..formats import QuantizedMatrix
from .file_error import FileError
from .layer_record import LayerRecord
from .parse_recipe import AnyRecipe
from .recipe_hash import recipe_hash
from .tensor_spool import TensorSpool

__all__ = ["MODEL_VERSION", "ModelWriter"]

MODEL_VERSION = 1

_LAYOUT = (
    "Weight W[n, k] of a layer: g = k // group_size; f = members[format_ids[n, g]], members[0] "
    "where there are no format_ids; c = bits k * code_width to (k + 1) * code_width - 1 of row n "
    "of codes, where bit i is bit i % 8 of byte i // 8; where packing is trits, c = (0, 1, 3)[t] "
    "with t = byte k // 5 of row n // 3 ** (k % 5) % 3. "
    "If f is of kind values: w = scales[n, g, 0] * values[c], and where f has zero_point, "
    "w = scales[n, g, 0] * (values[c] - values[zeros[n, g]]). "
    "If f is of kind signs: w is the sum over the bits i of c of scales[n, g, i] where the bit is "
    "1 and -scales[n, g, i] where it is 0, and where f has offset, plus scales[n, g, f.code_width]."
    " If f is of kind affine: w = scales[n, g, 0] * c + scales[n, g, 1]. If f is of kind free: "
    "w = scales[n, g, c]. Where there are outliers, those of row n are entries row_pointers[n] to "
    "row_pointers[n + 1] - 1: their values are added to w at their columns. "
    "W[n, k'] = row_scales[n] * w with k' = column_order[k], or k where there is no column_order. "
    "lutra_sha256 is the SHA-256 of all bytes after the header."
)


class ModelWriter:
    """Write quantised layers into a safetensors file, one at a time.

    A context manager. The layers are collected in an unnamed file in the target's folder; when the
    block ends well, the target is written beside its place and renamed into it. When it ends with
    an exception, whatever was at the target is still there, and nothing else. With a job, the file
    has a name and outlives a kill or an interrupt (:class:`TensorSpool`): a writer of the same
    target and job then has the complete layers already.

    Tensors of a layer (N rows, K columns, G groups a row, C scales a group): ``.codes`` uint8
    (N, ceil(K * code_width / 8)), or (N, ceil(K / 5)) for ternary codes, ``.format_ids`` uint8
    (N, G) where there are several formats, ``.scales`` int16 (N, G, C), int32 for a scale width of
    16 or more, ``.zeros`` uint8 (N, G) where some format has a zero-point, ``.row_scales`` float32
    (N,); where there is such a thing, ``.bias`` float32 (N,), ``.column_order`` int32 (K,),
    ``.outliers.row_pointers`` int64 (N + 1,), ``.outliers.columns`` int32 (E,) and
    ``.outliers.values`` int64 (E,). The metadata hold ``lutra_model_version``, ``lutra_recipe``,
    ``lutra_layers``, ``lutra_sha256``, ``lutra_recipe_sha256`` where there is a recipe,
    ``lutra_calibration_sha256`` where there were calibration data, ``lutra_allocations`` where
    there are any and, for people, ``lutra_layout``.

    Parameters
    ----------
    path : path
        The model file; its folder must exist.
    recipe : Recipe, Mixture or LayeredRecipe, optional
        Recorded in the file.
    job : dict, optional
        JSON of everything that the layers depend on.

    Attributes
    ----------
    allocations : list of dict
        What allocators decided; recorded where there is anything.
    calibration_sha256 : str or None
        Hash of the calibration data, where there were any.

    Raises
    ------
    FileError
        If the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        recipe: AnyRecipe | None = None,
        job: Mapping[str, Any] | None = None,
    ):
        self.path = Path(path)
        self._recipe = recipe
        self._job = job
        self.allocations: list[dict[str, Any]] = []
        self.calibration_sha256: str | None = None
        self._records: dict[str, LayerRecord] = {}
        self._spool: TensorSpool | None = None

    def __enter__(self) -> "ModelWriter":
        self._spool = TensorSpool(self.path, self._job)
        self._records = {
            name: LayerRecord.from_json(record) for name, record in self._spool.layers.items()
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._spool is not None
        # An interrupt, which is no Exception, leaves the same as a kill.
        keep = error is not None and not isinstance(error, Exception)
        try:
            if error is None:
                if not self._records:
                    raise FileError(f"Model file {self.path} must have at least one layer")
                self._spool.assemble(self._metadata)
        finally:
            self._spool.close(keep=keep)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are there, also of those that an earlier run has left."""
        return tuple(self._records)

    def add(self, name: str, matrix: QuantizedMatrix) -> None:
        """Append a layer.

        Parameters
        ----------
        name : str
            Not used by another layer.
        matrix : QuantizedMatrix
            Not kept.

        Raises
        ------
        :exc:`ValueError`
            If the name is empty or taken.
        FileError
            If the disk refuses.
        """
        if not name:
            raise ValueError("A layer must have a name")
        if name in self._records:
            raise ValueError(f"Layer {name!r} is in the model file already; names must differ")
        record = LayerRecord.of(matrix)
        self._append(f"{name}.codes", record.pack(matrix.codes))
        if len(matrix.members) > 1:
            self._append(f"{name}.format_ids", matrix.format_ids)
        self._append(f"{name}.scales", matrix.scales.astype(record.scale_type))
        if record.has_zeros:
            self._append(f"{name}.zeros", matrix.zeros)
        self._append(f"{name}.row_scales", matrix.row_scales)
        if matrix.bias is not None:
            self._append(f"{name}.bias", matrix.bias)
        if matrix.column_order is not None:
            self._append(f"{name}.column_order", matrix.column_order)
        if matrix.outliers is not None:
            self._append(f"{name}.outliers.row_pointers", matrix.outliers.row_pointers)
            self._append(f"{name}.outliers.columns", matrix.outliers.columns)
            self._append(f"{name}.outliers.values", matrix.outliers.values)
        assert self._spool is not None
        self._records[name] = record
        self._spool.finish_layer(name, record.to_json())

    def _append(self, name: str, array: npt.NDArray) -> None:
        if self._spool is None:
            raise ValueError("Use a ModelWriter in a with statement")
        self._spool.append(name, array)

    def _metadata(self, digest: str) -> dict[str, str]:
        layers = {name: record.to_json() for name, record in self._records.items()}
        recipe = None if self._recipe is None else json.loads(self._recipe.to_json())
        metadata = {
            "lutra_model_version": str(MODEL_VERSION),
            "lutra_recipe": json.dumps(recipe),
            "lutra_layers": json.dumps(layers),
            "lutra_sha256": digest,
            "lutra_layout": _LAYOUT,
        }
        if recipe is not None:
            metadata["lutra_recipe_sha256"] = recipe_hash(metadata["lutra_recipe"])
        if self.calibration_sha256 is not None:
            metadata["lutra_calibration_sha256"] = self.calibration_sha256
        if self.allocations:
            metadata["lutra_allocations"] = json.dumps(self.allocations)
        return metadata
