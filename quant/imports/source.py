"""A checkpoint as it lies on the disk: one file, or a folder of shards and configurations."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ...formats import widen_bfloat16
from ..file_error import FileError
from ..tensor_file import TensorEntry, TensorFile
from .torch_file import TorchFile

__all__ = ["CheckpointSource"]

INDEX = "model.safetensors.index.json"
_INDEX_SUFFIX = ".safetensors.index.json"
_JSON_BYTES = 1 << 26  # the index of a model with a million tensors is shorter
_HEAD_BYTES = 16
# What files of other containers begin with. Eight bytes of a safetensors file are a length.
_GGUF, _ZIP, _PICKLE = b"GGUF", b"PK\x03\x04", b"\x80"
# Keys of which two different values in a checkpoint's configurations would be two checkpoints.
_MUST_AGREE = ("bits", "group_size", "checkpoint_format", "quant_method", "sym")
# Files of torch.save in a folder without safetensors files: of Transformers and of HQQ.
_TORCH_FILES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "qmodel.pt")
_FLOATS = ("F64", "F32", "F16", "BF16")


class CheckpointSource:
    """Tensors and quantisation configuration of a checkpoint; tensors are read when asked for.

    A folder's tensors are those of the shards that its ``model.safetensors.index.json`` names, or
    of all its ``.safetensors`` files; where it has none, those of ``pytorch_model*.bin`` or
    ``qmodel.pt``. The configuration is merged from ``quantize_config.json``,
    ``hf_quant_config.json`` (``quantization``) and ``config.json`` (``quantization_config``) in
    the folder, or beside the file; where keys meet, the later file's value is taken.

    A file is one of safetensors or of torch.save. A GGUF file has no tensors here; its importer
    reads it by itself.

    Parameters
    ----------
    path : path
        A folder or a file.

    Attributes
    ----------
    path : Path
    folder : Path
        The folder itself, or the file's.
    head : bytes
        Up to 16 bytes with which a file begins; empty for a folder.

    Raises
    ------
    FileError
        If nothing is there or it cannot be read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.head = b""
        try:
            if not self.path.is_dir():
                with self.path.open("rb") as file:
                    self.head = file.read(_HEAD_BYTES)
        except FileNotFoundError:
            raise FileError(f"There is no file {self.path}") from None
        except OSError as error:
            raise FileError(f"Cannot read {self.path}: {error.strerror or error}") from None
        self.folder = self.path if self.path.is_dir() else self.path.parent
        self._files: tuple[TensorFile | TorchFile, ...] | None = None
        self._places: dict[str, TensorFile | TorchFile] = {}
        self._index: dict[str, Path] = {}
        self._config: dict[str, Any] | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the checkpoint is a folder."""
        return self.folder == self.path

    @property
    def files(self) -> tuple[TensorFile | TorchFile, ...]:
        """The files of tensors, opened; none where the file is of another container.

        Raises
        ------
        FileError
            If one is damaged, the index is not valid or leads out of the folder, or two shards
            have a tensor of the same name.
        """
        if self._files is None:
            self._files = tuple(map(_open, self._paths()))
            self._places = self._place()
        return self._files

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Names of all tensors, file by file, in the order of each file."""
        return tuple(name for file in self.files for name in file.entries)

    @property
    def tensors(self) -> Mapping[str, TensorFile | TorchFile]:
        """The file of each tensor, by the tensor's name."""
        self.files  # noqa: B018  # opens them
        return self._places

    @property
    def config(self) -> dict[str, Any]:
        """The quantisation configuration; empty where there is none.

        Raises
        ------
        FileError
            If a file of it is not JSON, too long, or two of them contradict each other.
        """
        if self._config is None:
            self._config = self._merge()
        return self._config

    def entry(self, name: str) -> TensorEntry:
        """Return a tensor's type and shape without reading it.

        Raises
        ------
        FileError
            If there is no such tensor.
        """
        if name not in self.tensors:
            raise FileError(f"{self.path} has no tensor {name!r}")
        return self._places[name].entries[name]

    def read(self, name: str, part: slice | None = None) -> npt.NDArray:
        """Read one tensor, or a part along its first dimension, as :meth:`TensorFile.read` does.

        Raises
        ------
        FileError
            If the tensor is missing, has no elements, is of a type that is not read, or cannot be
            read.
        """
        entry = self.entry(name)
        if 0 in entry.shape:
            raise FileError(f"Tensor {name!r} of {self.path} has no elements: {entry.shape}")
        return self._places[name].read(name, part)

    def floats(self, name: str) -> npt.NDArray[np.float32]:
        """Read a tensor of floats as float32, exactly.

        Raises
        ------
        FileError
            As :meth:`read`, and if the tensor is not of floats or float32 does not hold them.
        """
        entry = self.entry(name)
        if entry.dtype not in _FLOATS:
            raise FileError(
                f"Tensor {name!r} of {self.path} must be of floats, {', '.join(_FLOATS)}, "
                f"not {entry.dtype}"
            )
        values = self.read(name)
        if entry.dtype == "BF16":
            return widen_bfloat16(values)
        with np.errstate(over="ignore", invalid="ignore"):
            floats = values.astype(np.float32, copy=False)
        if entry.dtype == "F64" and not np.array_equal(floats, values, equal_nan=True):
            raise FileError(f"Tensor {name!r} of {self.path} has numbers that float32 cannot hold")
        return floats

    def identity(self, others: Sequence[Path] = ()) -> dict[str, Any]:
        """Return what tells this checkpoint from another or an earlier one, as JSON.

        Names, sizes and times of its files, with others that an importer has found, and its
        configuration.
        """
        paths = [*([file.path for file in self.files] or [self.path]), *others]
        states = [(str(path.resolve()), path.stat()) for path in paths]
        return {
            "files": [[name, state.st_size, state.st_mtime_ns] for name, state in states],
            "config": self.config,
        }

    def refuse_target(self, target: Path, others: Sequence[Path] = ()) -> None:
        """Refuse to write over the checkpoint.

        Raises
        ------
        FileError
            If the target is one of its files, or of others that an importer has found.
        """
        paths = {self.path, *(file.path for file in self.files), *others}
        if target.exists() and any(target.samefile(path) for path in paths):
            raise FileError(f"The model file must not replace its checkpoint {self.path}")

    def json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object of the folder; None if there is no such file.

        Raises
        ------
        FileError
            If the file is not a JSON object, or too long to be one of a checkpoint.
        """
        path = self.folder / name
        try:
            if not path.is_file():
                return None
            if path.stat().st_size > _JSON_BYTES:
                raise FileError(
                    f"{path} must have at most {_JSON_BYTES} bytes, not {path.stat().st_size}"
                )
            found = json.loads(path.read_bytes())
        except OSError as error:
            raise FileError(f"Cannot read {path}: {error.strerror or error}") from None
        except FileError:
            raise
        except (ValueError, RecursionError):
            raise FileError(f"{path} is not JSON") from None
        if not isinstance(found, dict):
            raise FileError(f"{path} must be a JSON object")
        return found

    def _paths(self) -> Sequence[Path]:
        if not self.is_folder:
            return () if self.head.startswith(_GGUF) else (self.path,)
        index = INDEX
        if not (self.folder / index).is_file():
            # Some are named after the model instead.
            others = sorted(path.name for path in self.folder.glob(f"*{_INDEX_SUFFIX}"))
            if len(others) != 1:
                return sorted(self.folder.glob("*.safetensors")) or self._torch_paths()
            index = others[0]
        names = (self.json(index) or {}).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(item, str) for item in names.values()):
            raise FileError(f"{self.folder / index} must have a 'weight_map' of names of files")
        shards = dict.fromkeys(names.values())
        for shard in shards:
            place = PurePosixPath(shard)
            if not shard or place.is_absolute() or ".." in place.parts or "\\" in shard:
                raise FileError(
                    f"{self.folder / index} names the shard {shard!r}, which is not in the folder"
                )
        self._index = {name: self.folder / shard for name, shard in names.items()}
        return [self.folder / shard for shard in shards]

    def _torch_paths(self) -> list[Path]:
        return sorted(path for pattern in _TORCH_FILES for path in self.folder.glob(pattern))

    def _place(self) -> dict[str, TensorFile | TorchFile]:
        places: dict[str, TensorFile | TorchFile] = {}
        for file in self._files or ():
            for name in file.entries:
                if name in places:
                    raise FileError(
                        f"Tensor {name!r} is both in {places[name].path} and in {file.path}"
                    )
                places[name] = file
        for name, path in self._index.items():
            if name not in places or places[name].path != path:
                raise FileError(
                    f"The index of {self.path} has tensor {name!r} in {path}, which lacks it"
                )
        return places

    def _merge(self) -> dict[str, Any]:
        parts = {
            "quantize_config.json": self.json("quantize_config.json"),
            "hf_quant_config.json": (self.json("hf_quant_config.json") or {}).get("quantization"),
            "config.json": (self.json("config.json") or {}).get("quantization_config"),
        }
        merged: dict[str, Any] = {}
        for name, part in parts.items():
            if part is None:
                continue
            if not isinstance(part, dict):
                raise FileError(f"The quantisation in {self.folder / name} must be a JSON object")
            for key in _MUST_AGREE:
                if key in merged and key in part and merged[key] != part[key]:
                    raise FileError(
                        f"The configurations in {self.folder} contradict each other: {key} is "
                        f"{merged[key]!r}, and {part[key]!r} in {name}"
                    )
            merged |= part
        return merged


def _open(path: Path) -> TensorFile | TorchFile:
    """Open a file of tensors by what it begins with."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        head = b""  # which the other will report
    if head[:1] == _PICKLE and head[2:8] != bytes(6):
        raise FileError(
            f"{path} is a bare pickle, which could run code; only files of torch.save of PyTorch "
            f"1.6 or later are read, and safetensors files"
        )
    return TorchFile(path) if head.startswith(_ZIP) else TensorFile(path)
