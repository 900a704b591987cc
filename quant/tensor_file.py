"""Tensors of a safetensors file, one at a time."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from .file_error import FileError

__all__ = ["TensorEntry", "TensorFile"]

# Element types that Lutra reads; what NumPy has no type for comes as its bits.
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "F8_E8M0": "u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "u1",
}
_LENGTH_BYTES = 8  # of the header, before the header
_PIECE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies.

    Parameters
    ----------
    dtype : str
        Element type, as safetensors names it.
    shape : tuple of int
    start, end : int
        First byte, and the one after the last, counted from the start of the data.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFile:
    """Names, shapes and places of all tensors of a file; the tensors are read when asked for.

    The safetensors package checks the file; the bytes are then read directly, because those of a
    memory map would stay in memory for as long as the file is open.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
    entries : dict of str to TensorEntry
        In the order of the file's header.

    Raises
    ------
    FileError
        If the file is missing, cannot be read, is truncated or is not safetensors.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with safe_open(self.path, framework="np"):
                pass
            header, self._data_start = _read_header(self.path)
        except FileNotFoundError:
            raise FileError(f"There is no file {self.path}") from None
        except SafetensorError:
            raise FileError(_diagnosis(self.path)) from None
        except OSError as error:
            raise FileError(f"Cannot read {self.path}: {error.strerror or error}") from None
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self.entries = {
            name: TensorEntry(item["dtype"], tuple(item["shape"]), *item["data_offsets"])
            for name, item in header.items()
        }

    def entry(self, name: str) -> TensorEntry:
        """Return where a tensor lies.

        Raises
        ------
        FileError
            If there is no such tensor.
        """
        if name not in self.entries:
            raise FileError(f"{self.path} has no tensor {name!r}")
        return self.entries[name]

    def read(self, name: str, part: slice | None = None) -> npt.NDArray:
        """Read one tensor, or a part of it.

        Parameters
        ----------
        name : str
        part : slice, optional
            Along the first dimension, without steps; only this is read.

        Returns
        -------
        array
            Of the tensor's shape and type; the bits, as uint16, of bfloat16, and, as uint8, of
            floats of 8 bits and of booleans.

        Raises
        ------
        FileError
            If the tensor is missing, of another type, or cannot be read.
        """
        entry = self.entry(name)
        if entry.dtype not in _TYPES:
            raise FileError(
                f"Tensor {name!r} of {self.path} has type {entry.dtype}; "
                f"types that can be read: {', '.join(_TYPES)}"
            )
        shape, start = entry.shape, self._data_start + entry.start
        dtype = np.dtype(_TYPES[entry.dtype])
        if part is not None:
            first, end, _ = part.indices(shape[0])
            start += first * math.prod(shape[1:]) * dtype.itemsize
            shape = (max(end - first, 0), *shape[1:])
        count = math.prod(shape)
        try:
            values = np.fromfile(self.path, dtype, count, offset=start)
        except OSError as error:
            raise FileError(f"Cannot read {self.path}: {error.strerror or error}") from None
        if values.size != count:
            raise FileError(f"{self.path} has become shorter while it was read")
        return values.reshape(shape)

    def data(self) -> Iterator[bytes]:
        """Yield all bytes after the header, in pieces."""
        with self.path.open("rb") as file:
            file.seek(self._data_start)
            while piece := file.read(_PIECE_BYTES):
                yield piece


def _read_header(path: Path) -> tuple[dict, int]:
    """Return the header and the position of the first byte after it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > path.stat().st_size:  # of text, say, which would ask for any amount of memory
            raise ValueError("The header is longer than the file")
        return json.loads(file.read(length)), _LENGTH_BYTES + length


def _diagnosis(path: Path) -> str:
    """Say why the safetensors package refused a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begins_well = file.read(1) == b"{"
    if begins_well and start > size:
        return (
            f"{path} is truncated: its header should end at byte {start}, but the file has {size}"
        )
    try:
        header, start = _read_header(path)
        needed = start + max(
            item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        needed = 0
    if needed > size:
        return f"{path} is truncated: it should have {needed} bytes, but has {size}"
    return f"{path} is not a safetensors file, or is damaged"
