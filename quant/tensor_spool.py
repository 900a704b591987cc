"""Tensors that are collected on the disk until their safetensors file can be put together."""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from .file_error import FileError

__all__ = ["TensorSpool"]

_NAMES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
}
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
_PIECE_BYTES = 1 << 22
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class TensorSpool:
    """A file beside the target that takes tensors layer by layer; the target is made of it.

    Without a job the file has no name, and is gone with the process. With one, it is
    ``.NAME.partial`` in the target's folder, and ``.NAME.partial.json`` says which layers are
    complete, by a line with a checksum each: the next spool of the same target and job goes on
    after them, whatever ended the first one.

    Parameters
    ----------
    target : path
    job : dict, optional
        JSON of everything that the tensors depend on.

    Attributes
    ----------
    layers : dict of str to dict
        What :meth:`finish_layer` was told of each complete layer.

    Raises
    ------
    FileError
        If the disk refuses, or another process works on the same target.
    """

    def __init__(self, target: Path, job: Mapping[str, Any] | None = None):
        self._target = target
        self._tensors: list[_Tensor] = []
        self._finished = 0  # tensors of complete layers
        self._sum = 0
        self._end = 0
        self.layers: dict[str, dict[str, Any]] = {}
        self._paths: tuple[Path, Path] | None = None
        self._journal: BinaryIO | None = None
        self._open_files = contextlib.ExitStack()
        if target.is_dir():
            raise FileError(f"Cannot write {target}: it is a folder")
        try:
            if job is None:
                self._file = self._open_files.enter_context(_unnamed(target.parent))
            else:
                data = target.with_name(f".{target.name}.partial")
                self._paths = (data, data.with_name(f"{data.name}.json"))
                self._file = self._open_files.enter_context(self._lock(data))
                self._resume(json.dumps(job, sort_keys=True))
        except BaseException as error:
            self._open_files.close()
            if isinstance(error, OSError):
                raise self._unwritable(error) from None
            raise

    def append(self, name: str, array: npt.NDArray) -> None:
        """Add a tensor of the layer in work."""
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        raw = little.reshape(-1).view(np.uint8).data  # bfloat16 is no type of buffers
        try:
            self._file.write(raw)
        except OSError as error:
            raise self._unwritable(error) from None
        self._sum = zlib.crc32(raw, self._sum)
        self._tensors.append(
            _Tensor(name, _NAMES[array.dtype.name], array.shape, self._end, array.nbytes)
        )
        self._end += array.nbytes

    def finish_layer(self, name: str, record: dict[str, Any]) -> None:
        """Say that all tensors of a layer are there; a killed process would go on after it."""
        self.layers[name] = record
        own = self._tensors[self._finished :]
        entry: dict[str, Any] = {
            "layer": name,
            "record": record,
            "tensors": [(item.name, item.dtype, item.shape) for item in own],
        }
        line = {**entry, "crc32": _checksum(entry, self._sum)}
        self._finished, self._sum = len(self._tensors), 0
        if self._journal is None:
            return
        try:
            self._file.flush()
            self._journal.write(json.dumps(line).encode() + b"\n")
            self._journal.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def assemble(self, metadata: Callable[[str], Mapping[str, str]]) -> None:
        """Put the target together beside its place and move it there.

        Parameters
        ----------
        metadata : callable
            Takes the SHA-256 of the data, in hexadecimal digits; the length of what it returns must
            not depend on them.
        """
        beside = self._target.with_name(f".{self._target.name}.{os.getpid()}.partial")
        # The widest elements come first, so that every tensor is aligned without any gap.
        tensors = sorted(self._tensors, key=lambda tensor: -_SIZES[tensor.dtype])
        digest = hashlib.sha256()
        try:
            with beside.open("xb") as file:
                # The digest is only known after the data.
                file.write(_header(tensors, metadata(digest.hexdigest())))
                for tensor in tensors:
                    self._copy(tensor, file, digest)
                file.seek(0)
                file.write(_header(tensors, metadata(digest.hexdigest())))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._target)
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            beside.unlink(missing_ok=True)

    def close(self, *, keep: bool) -> None:
        """Let go of the file.

        Parameters
        ----------
        keep : bool
            Whether to leave the complete layers for the next spool of the same job.
        """
        if self._paths is not None and not keep:
            for path in self._paths:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        self._open_files.close()

    def _lock(self, path: Path) -> BinaryIO:
        """Open the file for this process alone."""
        while True:
            file = path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise FileError(
                    f"Cannot write {self._target}: another process is at it, with {path}"
                ) from None
            # Whoever had it before may have removed it in between.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    return file
            file.close()

    def _resume(self, job: str) -> None:
        """Take over the complete layers of the same job, and drop whatever comes after them."""
        assert self._paths is not None
        self._journal = self._open_files.enter_context(self._paths[1].open("a+b"))
        self._journal.seek(0)
        kept = 0
        if self._journal.readline() == _first_line(job):
            kept = self._journal.tell()
            self._file.seek(0)
            for line in self._journal:
                if not self._take(line):
                    break
                kept += len(line)
        self._file.truncate(self._end)
        self._file.seek(self._end)
        self._journal.truncate(kept)
        if not kept:
            self._journal.write(_first_line(job))
            self._journal.flush()

    def _take(self, line: bytes) -> bool:
        """Take over a layer, if its line and its data are whole."""
        if not line.endswith(b"\n"):
            return False
        try:
            entry = json.loads(line)
            wanted = entry.pop("crc32")
            tensors, end = [], self._end
            for name, dtype, shape in entry["tensors"]:
                size = _SIZES[dtype] * int(np.prod(shape, dtype=np.int64))
                tensors.append(_Tensor(name, dtype, tuple(shape), end, size))
                end += size
            layer, record = entry["layer"], entry["record"]
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        left, found = end - self._end, 0
        if left < 0 or end > os.fstat(self._file.fileno()).st_size:
            return False
        while left:
            piece = self._file.read(min(left, _PIECE_BYTES))
            if not piece:
                return False
            found = zlib.crc32(piece, found)
            left -= len(piece)
        if _checksum(entry, found) != wanted:
            return False
        self._tensors += tensors
        self._finished, self._end = len(self._tensors), end
        self.layers[layer] = record
        return True

    def _copy(self, tensor: _Tensor, file: BinaryIO, digest) -> None:
        self._file.seek(tensor.start)
        left = tensor.size
        while left:
            piece = self._file.read(min(left, _PIECE_BYTES))
            digest.update(piece)
            file.write(piece)
            left -= len(piece)

    def _unwritable(self, error: OSError) -> FileError:
        return FileError(f"Cannot write {self._target}: {error.strerror or error}")


def _unnamed(folder: Path) -> BinaryIO:
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


def _checksum(entry: dict[str, Any], data: int) -> int:
    """Return the checksum of a layer's line and of its data's checksum."""
    return zlib.crc32(json.dumps(entry).encode(), data)


def _first_line(job: str) -> bytes:
    return json.dumps({"job": job}).encode() + b"\n"


def _header(tensors: list[_Tensor], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.size],
        }
        position += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
