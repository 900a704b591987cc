"""What the importers of safetensors checkpoints share: a layer is a stem with tensors by suffix."""

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ..file_error import FileError
from .importer import Importer

__all__ = ["SafetensorsImporter"]


class SafetensorsImporter(Importer):
    """An importer whose layers are tensors ``stem + suffix``.

    Attributes
    ----------
    marker : str
        Suffix of the tensor of codes; each tensor with it is a layer.
    suffixes : tuple of str
        Suffixes of the other tensors that belong to a layer where they are there.
    """

    marker: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the quantised layers, in the order of the files."""
        names = self.source.tensor_names
        return tuple(
            name.removesuffix(self.marker)
            for name in names
            if name.endswith(self.marker) and name != self.marker and self.is_layer(name)
        )

    def is_layer(self, tensor: str) -> bool:
        """Whether a tensor with the marker is one of codes."""
        return True

    def tensors(self, layer: str) -> tuple[str, ...]:
        """Return the names of the tensors that a layer is made of."""
        names = (layer + suffix for suffix in (self.marker, *self.suffixes, ".bias"))
        return tuple(name for name in names if name in self.source.tensors)

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.source.tensors

    def shape(self, name: str, dtypes: Sequence[str], ndim: int) -> tuple[int, ...]:
        """Return a tensor's shape, its type checked, without reading it.

        Raises
        ------
        FileError
            If there is no such tensor, or it is of another type or number of dimensions, or empty.
        """
        entry = self.source.entry(name)
        if entry.dtype not in dtypes or len(entry.shape) != ndim or 0 in entry.shape:
            raise FileError(
                f"Tensor {name!r} must be {' or '.join(dtypes)} of {ndim} dimensions, not "
                f"{entry.dtype} of shape {entry.shape}"
            )
        return entry.shape

    def array(self, name: str, dtypes: Sequence[str], shape: tuple[int, ...]) -> npt.NDArray:
        """Read a tensor, its type and shape checked before.

        Raises
        ------
        FileError
            If there is no such tensor, or it is of another type or shape.
        """
        self.check(name, dtypes, shape)
        return self.source.read(name)

    def check(self, name: str, dtypes: Sequence[str], shape: tuple[int, ...]) -> None:
        """Check a tensor's type and shape without reading it.

        Raises
        ------
        FileError
            If there is no such tensor, or it is of another type or shape.
        """
        entry = self.source.entry(name)
        if entry.dtype not in dtypes or entry.shape != shape:
            raise FileError(
                f"Tensor {name!r} must be {' or '.join(dtypes)} of shape {shape}, not "
                f"{entry.dtype} of shape {entry.shape}"
            )

    def floats(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Read a tensor of finite floats as float32, its shape checked before.

        Raises
        ------
        FileError
            If there is no such tensor, it is of another type or shape, or has NaN or infinity.
        """
        entry = self.source.entry(name)
        if entry.shape != shape:
            raise FileError(f"Tensor {name!r} must be of shape {shape}, not {entry.shape}")
        values = self.source.floats(name)
        if not np.isfinite(values).all():
            raise FileError(f"Tensor {name!r} must be of finite numbers; it has NaN or infinity")
        return values

    def bias(self, layer: str, rows: int) -> npt.NDArray[np.float32] | None:
        """Read a layer's bias, if it has one.

        Raises
        ------
        FileError
            If it does not have one finite number a row.
        """
        name = f"{layer}.bias"
        return self.floats(name, (rows,)) if self.has(name) else None

    def note_apart(self, layer: str) -> None:
        """Take a note that a layer's scales of NVFP4 lie too far apart to be rounded first."""
        self.notes.append(
            f"Layer {layer!r}: scales of a row lie far apart, so the factor of all scales is in "
            "the rows; weights are within two units of the last place of float32"
        )
