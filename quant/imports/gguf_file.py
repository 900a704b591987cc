"""The container of llama.cpp's checkpoints, GGUF."""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..file_error import FileError
from .gguf_types import GGUF_TYPES

__all__ = ["GgufFile", "GgufTensor"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # version 1 has shorter counts and was in use for some weeks
_ALIGNMENT_KEY = "general.alignment"
_ALIGNMENT = 32
_MAX_DIMENSIONS = 4  # of ggml
_MAX_NESTING = 4  # of arrays in arrays; nobody has written more than one

# Scalars by their number, for `struct`.
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING = 8
_ARRAY = 9


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor lies.

    Parameters
    ----------
    type_number : int
        Type, as ggml numbers them; not every number is known.
    shape : tuple of int
        Slowest dimension first, as in NumPy.
    start : int
        First byte, counted from the start of the file.
    """

    type_number: int
    shape: tuple[int, ...]
    start: int

    @property
    def is_known(self) -> bool:
        """Whether the type is known, so that the shape was compared with the file."""
        return self.type_number in GGUF_TYPES

    @property
    def type_name(self) -> str:
        """Name of the type, or its number where that is all that is known."""
        return GGUF_TYPES[self.type_number].name if self.is_known else f"number {self.type_number}"

    @property
    def row_bytes(self) -> int:
        """Bytes of the elements along the last dimension, of a known type."""
        known = GGUF_TYPES[self.type_number]
        return self.shape[-1] // known.block_length * known.block_bytes

    @property
    def size(self) -> int:
        """Bytes of the tensor, of a known type."""
        return math.prod(self.shape[:-1]) * self.row_bytes


class GgufFile:
    """Names, types, shapes and places of all tensors of a file; the tensors are read when asked.

    Every length in the header is compared with the file before anything is done with it, so that a
    damaged file costs no more memory than it has bytes.

    Parameters
    ----------
    path : path
        A ``.gguf`` file of version 2 or 3, little-endian.

    Attributes
    ----------
    path : Path
    metadata : dict of str to int, float, bool or str
        Key-values without the arrays among them.
    tensors : dict of str to GgufTensor
        In the order of the file.

    Raises
    ------
    FileError
        If the file is missing, truncated, damaged, or of another version or byte order.

    Source
    ------
    GGUF specification, ggml/docs/gguf.md.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metadata: dict[str, int | float | bool | str] = {}
        self.tensors: dict[str, GgufTensor] = {}
        try:
            with self.path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise FileError(f"{self.path} is not a GGUF file: it does not begin with GGUF")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    self._read_header(_Cursor(self.path, data))
        except FileNotFoundError:
            raise FileError(f"There is no file {self.path}") from None
        except OSError as error:
            raise FileError(f"Cannot read {self.path}: {error.strerror or error}") from None

    def tensor(self, name: str) -> GgufTensor:
        """Return where a tensor lies.

        Raises
        ------
        FileError
            If there is no such tensor.
        """
        if name not in self.tensors:
            raise FileError(f"{self.path} has no tensor {name!r}")
        return self.tensors[name]

    def rows(self, name: str, start: int, count: int) -> npt.NDArray[np.uint8]:
        """Read some rows of a tensor of a known type.

        Parameters
        ----------
        name : str
        start, count : int
            First row and how many; rows are along all dimensions but the last.

        Returns
        -------
        uint8 array, shape (count, row_bytes)

        Raises
        ------
        FileError
            If the tensor is missing, of an unknown type, or cannot be read.
        """
        entry = self.tensor(name)
        if not entry.is_known:
            raise FileError(
                f"Tensor {name!r} of {self.path} has type {entry.type_name}, which is not known"
            )
        size = count * entry.row_bytes
        place = entry.start + start * entry.row_bytes
        try:
            values = np.fromfile(self.path, np.uint8, size, offset=place)
        except OSError as error:
            raise FileError(f"Cannot read {self.path}: {error.strerror or error}") from None
        if values.size != size:
            raise FileError(f"{self.path} has become shorter while it was read")
        return values.reshape(count, entry.row_bytes)

    def _read_header(self, cursor: "_Cursor") -> None:
        cursor.skip(len(_MAGIC))
        version = cursor.number("I")
        if version & 0xFFFF == 0:
            raise FileError(f"{self.path} is big-endian; only little-endian files can be read")
        if version not in _VERSIONS:
            raise FileError(
                f"{self.path} has GGUF version {version}; versions that can be read: "
                f"{', '.join(map(str, _VERSIONS))}"
            )
        tensor_count, pair_count = cursor.number("Q"), cursor.number("Q")
        keys = set()
        for _ in range(pair_count):
            key = cursor.text("a key")
            if key in keys:
                raise FileError(f"{self.path} has key {key!r} twice")
            keys.add(key)
            value = cursor.value()
            if value is not None:
                self.metadata[key] = value
        entries = [self._entry(cursor) for _ in range(tensor_count)]
        alignment = self._alignment()
        start = -(-cursor.place // alignment) * alignment
        for name, entry in entries:
            if name in self.tensors:
                raise FileError(f"{self.path} has tensor {name!r} twice")
            if entry.start % alignment:
                raise FileError(
                    f"Tensor {name!r} of {self.path} begins at byte {entry.start} of the data, "
                    f"which is no multiple of the alignment, {alignment}"
                )
            self.tensors[name] = GgufTensor(entry.type_number, entry.shape, start + entry.start)
        self._check_places(cursor.size)

    def _alignment(self) -> int:
        alignment = self.metadata.get(_ALIGNMENT_KEY, _ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise FileError(
                f"{_ALIGNMENT_KEY} of {self.path} must be a power of two, not {alignment!r}"
            )
        return alignment

    def _entry(self, cursor: "_Cursor") -> tuple[str, GgufTensor]:
        """Read what the header says of one tensor; its place is still that within the data."""
        name = cursor.text("a tensor's name")
        dimensions = cursor.number("I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise FileError(
                f"Tensor {name!r} of {self.path} must have 1 to {_MAX_DIMENSIONS} dimensions, "
                f"not {dimensions}"
            )
        shape = tuple(reversed([cursor.number("Q") for _ in range(dimensions)]))
        if 0 in shape:
            raise FileError(f"Tensor {name!r} of {self.path} has no elements: shape {shape}")
        type_number = cursor.number("I")
        known = GGUF_TYPES.get(type_number)
        if known and shape[-1] % known.block_length:
            raise FileError(
                f"Rows of tensor {name!r} of {self.path} must be multiples of "
                f"{known.block_length} for type {known.name}, not {shape[-1]}"
            )
        return name, GgufTensor(type_number, shape, cursor.number("Q"))

    def _check_places(self, file_size: int) -> None:
        """Refuse tensors that reach beyond the file or into one another."""
        end, before = 0, ""
        for name, entry in sorted(self.tensors.items(), key=lambda item: item[1].start):
            if entry.start < end:
                raise FileError(f"Tensors {before!r} and {name!r} of {self.path} overlap")
            size = entry.size if entry.is_known else 0
            end, before = entry.start + size, name
            if end > file_size:
                raise FileError(
                    f"{self.path} is truncated: tensor {name!r} should end at byte {end}, "
                    f"but the file has {file_size}"
                )


class _Cursor:
    """A place in the header that moves on as it is read."""

    def __init__(self, path: Path, data: mmap.mmap):
        self._path = path
        self._data = data
        self.size = len(data)
        self.place = 0

    def skip(self, count: int) -> int:
        """Move on by some bytes and return the place of the first of them."""
        place = self.place
        if count > self.size - place:
            raise FileError(
                f"{self._path} is truncated or damaged: its header needs {count} bytes at byte "
                f"{place}, but the file has {self.size}"
            )
        self.place += count
        return place

    def number(self, code: str) -> int:
        return self._scalar(code)

    def text(self, thing: str) -> str:
        length = self.number("Q")
        start = self.skip(length)
        try:
            return self._data[start : start + length].decode()
        except UnicodeDecodeError:
            raise FileError(
                f"{self._path} is damaged: {thing} at byte {start} is no UTF-8 text"
            ) from None

    def value(self) -> int | float | bool | str | None:
        """Read a value with its type; None for an array, which is only passed over."""
        kind = self.number("I")
        if kind == _STRING:
            return self.text("a value")
        if kind == _ARRAY:
            self._pass_array(_MAX_NESTING)
            return None
        return self._scalar(self._code(kind))

    def _pass_array(self, nesting: int) -> None:
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY:
            if not nesting:
                raise FileError(f"{self._path} is damaged: arrays in arrays in arrays")
            for _ in range(count):
                self._pass_array(nesting - 1)
        elif kind == _STRING:
            for _ in range(count):
                self.skip(self.number("Q"))
        else:
            self.skip(count * struct.calcsize(f"<{self._code(kind)}"))

    def _code(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise FileError(
                f"{self._path} is damaged: a value at byte {self.place} has the unknown type {kind}"
            )
        return _SCALARS[kind]

    def _scalar(self, code: str):
        layout = f"<{code}"
        return struct.unpack_from(layout, self._data, self.skip(struct.calcsize(layout)))[0]
