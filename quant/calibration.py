"""What calibration text puts into each layer."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..formats import widen_bfloat16
from .file_error import FileError
from .tensor_file import TensorFile

__all__ = ["Calibration", "LayerCalibration"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCalibration:
    """Calibration data of one layer.

    Parameters
    ----------
    inputs : float32 array, shape (M, K)
        Activations that the layer was given, one token a row; finite.
    importance : float64 array, shape (N,) or (1,)
        Factor of the squared error of each output, or of all: what an error there weighs beside
        one of another output or layer. Mean squares of a loss's gradients make it the Fisher
        information, and the weighted error an estimate of what the loss itself gains.
    """

    inputs: npt.NDArray[np.float32]
    importance: npt.NDArray[np.float64]


class Calibration:
    """Calibration data in a safetensors file, read layer by layer.

    For a layer named ``layer`` the file has ``layer.inputs``, shape (M, K), and may have
    ``layer.importance``, shape (N,) or (1,), by default 1; float32, float16 or bfloat16.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileError
        If the file is missing, truncated or not safetensors.
    """

    def __init__(self, path: str | Path):
        self._file = TensorFile(path)
        self.path = self._file.path

    def layer(self, name: str, rows: int, columns: int) -> LayerCalibration:
        """Read the data of a layer of shape (N, K).

        Raises
        ------
        FileError
            If they are missing, of another shape or type, or not finite.
        """
        inputs = self._floats(f"{name}.inputs")
        if inputs.ndim != 2 or inputs.shape[1] != columns or not len(inputs):
            raise FileError(
                f"Tensor '{name}.inputs' of {self.path} must have shape (tokens, {columns}), "
                f"not {inputs.shape}"
            )
        importance = np.ones(1, np.float32)
        if f"{name}.importance" in self._file.entries:
            importance = self._floats(f"{name}.importance")
        if importance.shape not in ((rows,), (1,)) or (importance < 0).any():
            raise FileError(
                f"Tensor '{name}.importance' of {self.path} must be {rows} or 1 numbers that are "
                f"not negative"
            )
        return LayerCalibration(inputs=inputs, importance=importance.astype(np.float64))

    def sha256(self) -> str:
        """Return the SHA-256 of the file's data: of all bytes after its header."""
        digest = hashlib.sha256()
        for piece in self._file.data():
            digest.update(piece)
        return digest.hexdigest()

    def _floats(self, name: str) -> npt.NDArray[np.float32]:
        values = self._file.read(name)
        kind = self._file.entries[name].dtype
        if kind == "BF16":
            values = widen_bfloat16(values)
        elif kind not in ("F32", "F16"):
            raise FileError(f"Tensor {name!r} of {self.path} must be of floats, not {kind}")
        if not np.isfinite(values).all():
            raise FileError(f"Tensor {name!r} of {self.path} must be finite; remove NaN, infinity")
        return values.astype(np.float32, copy=False)
