"""Tensors of a file of torch.save, which is a pickle in a zip archive."""

import math
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..file_error import FileError
from ..tensor_file import TensorEntry

__all__ = ["TorchFile"]

_PICKLE = "data.pkl"
# All that a pickle of tensors, numbers and dictionaries names. PyTorch's own list for files that
# are not trusted is longer and has types that can be asked for any amount of memory.
_STORAGES = "Double Float Half BFloat16 Long Int Short Char Byte Bool"
_DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
_GLOBALS = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
    *(("torch", f"{name}Storage") for name in _STORAGES.split()),
    *(("torch", name) for name in _DTYPES.split()),
}
# Names of element types in safetensors files; bfloat16 is read as its bits.
_TYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}
_MAX_DEPTH = 8  # of dictionaries in dictionaries


class TorchFile:
    """Names, types and shapes of all tensors of a file, mapped into memory.

    Dictionaries in dictionaries become names with dots. Nothing that the file says is run: names
    of Python objects other than tensors are refused before the file is loaded, and PyTorch loads
    weights only. The archive's directory is compared with the file first, so that a small file
    cannot unfold to a large one.

    Parameters
    ----------
    path : path
        A file that torch.save of PyTorch 1.6 or later wrote, ``.pt``, ``.pth`` or ``.bin``.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
        Empty.
    entries : dict of str to TensorEntry
        In the order of the file.
    values : dict of str to object
        What is not a tensor.

    Raises
    ------
    FileError
        If the file is missing, damaged, compressed, or holds other things than tensors, numbers
        and names; or PyTorch is not installed.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metadata: dict[str, str] = {}
        self.entries: dict[str, TensorEntry] = {}
        self.values: dict[str, Any] = {}
        self._tensors: dict[str, Any] = {}
        pickled = _checked_pickle(self.path)
        self._check_names(pickled)
        self._load(len(pickled))

    def entry(self, name: str) -> TensorEntry:
        """Return a tensor's type and shape.

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
            Along the first dimension, without steps.

        Returns
        -------
        array
            Of the tensor's shape and type; the bits, as uint16, of bfloat16, and uint8 of booleans.

        Raises
        ------
        FileError
            If there is no such tensor.
        """
        dtype = self.entry(name).dtype
        tensor = self._tensors[name]
        values = np.array(tensor.numpy() if part is None else tensor[part].numpy(), order="C")
        views = {"BF16": np.uint16, "BOOL": np.uint8}
        return values.view(views[dtype]) if dtype in views else values

    def _check_names(self, pickled: bytes) -> None:
        """Refuse a pickle that names other objects than tensors are made of."""
        try:
            for module, name in _names(pickled):
                if (module, name) not in _GLOBALS:
                    raise FileError(
                        f"{self.path} holds {module}.{name}, which is no part of tensors of "
                        f"numbers and could run code; save those alone, best as safetensors"
                    )
        except FileError:
            raise
        except Exception:  # of whatever a damaged pickle makes this module raise
            raise FileError(f"{self.path} is damaged: its {_PICKLE} is not a pickle") from None

    def _load(self, most: int) -> None:
        try:
            import torch  # takes seconds, and only these files need it
        except ImportError:
            raise FileError(
                f"Reading {self.path} needs PyTorch; install it with: pip install 'lutra[gpu]'"
            ) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # PyTorch raises many kinds for damaged files
            raise FileError(f"{self.path} is damaged: PyTorch cannot load it") from None
        if not isinstance(tree, dict):
            raise FileError(f"{self.path} must hold a dictionary, not a {type(tree).__name__}")
        for count, (name, leaf) in enumerate(_leaves(tree, self.path)):
            if count > most:  # the same dictionaries again and again
                raise FileError(f"{self.path} is damaged: it has more names than bytes")
            if name in self.entries or name in self.values:
                raise FileError(f"{self.path} has {name!r} twice")
            if not isinstance(leaf, torch.Tensor):
                self.values[name] = leaf
                continue
            self._check(name, leaf)
            # NumPy has no bfloat16.
            bits = leaf.dtype == torch.bfloat16
            self._tensors[name] = leaf.detach().view(torch.int16) if bits else leaf.detach()

    def _check(self, name: str, tensor: Any) -> None:
        shape = tuple(tensor.shape)
        size = math.prod(shape) * tensor.element_size()
        # A stride of 0 would repeat one number as often as the shape says.
        if str(tensor.layout) != "torch.strided" or size > tensor.untyped_storage().nbytes():
            raise FileError(f"Tensor {name!r} of {self.path} has fewer numbers than its shape says")
        self.entries[name] = TensorEntry(_TYPES[str(tensor.dtype)], shape, 0, size)


def _checked_pickle(path: Path) -> bytes:
    """Return the pickle of an archive whose directory agrees with the file."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            items = archive.infolist()
            names = [item.filename for item in items]
            pickles = [name for name in names if name.rpartition("/")[2] == _PICKLE]
            if not pickles:
                raise FileError(f"{path} is not a file of torch.save: it has no {_PICKLE}")
            if len(pickles) > 1 or len(set(names)) < len(names):
                raise FileError(f"{path} is damaged: its directory has a file twice")
            for item in items:
                if item.compress_type != zipfile.ZIP_STORED or item.compress_size != item.file_size:
                    raise FileError(
                        f"{path} has {item.filename!r} compressed, which torch.save does not do"
                    )
            if sum(item.file_size for item in items) > size:
                raise FileError(f"{path} is damaged: it says that it has more bytes than it has")
            return archive.read(pickles[0])
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(f"There is no file {path}") from None
    except zipfile.BadZipFile:
        raise FileError(f"{path} is not a file of torch.save, or is truncated or damaged") from None
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror or error}") from None
    except Exception:  # zipfile lets many kinds through
        raise FileError(f"{path} is damaged: its directory cannot be read") from None


def _names(pickled: bytes) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of every object that a pickle refers to."""
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield module, name
        elif operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            yield "", operation.name  # of protocols that torch.save does not use


def _leaves(tree: dict, path: Path, depth: int = _MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if not isinstance(key, str):
            raise FileError(f"{path} must have names in its dictionaries, not {key!r:.60}")
        if not isinstance(value, dict):
            yield key, value
        elif not depth:
            raise FileError(f"{path} must have dictionaries at most {_MAX_DEPTH} deep")
        else:
            for name, leaf in _leaves(value, path, depth - 1):
                yield f"{key}.{name}", leaf
