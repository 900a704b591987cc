"""HQQ: integers with fractional zero-points."""

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix, member
from ..file_error import FileError
from .exact_matrix import exact_matrix
from .hqq_packing import PACKINGS, unpack_hqq
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource
from .torch_file import TorchFile

__all__ = ["HqqImporter"]

_META = "meta."  # before all names but W_q and bias, in files of older versions
_KEYS = (
    *("scale", "zero", "zero_scale", "scale_q", "zero_q"),
    *("nbits", "group_size", "shape", "axis", "packing", "unpack_view_dtype", "view_as_float"),
    *("quant_scale", "quant_zero", "compute_dtype", "channel_wise", "optimize", "round_zero"),
    *("offload_meta", "encoded_state_dict", "stores_quant_config"),
)
_NESTED = ("meta_scale", "meta_zero")
_NESTED_KEYS = ("scale", "zero")  # those that are tensors
_BITS = {8: 8, 6: 6, 5: 5, 4: 4, 3: 3, 2: 2, 1.58: 2, 1: 1}
_VIEWS = {"U8": np.dtype(np.uint8), "I32": np.dtype("<i4")}
_FLOATS = ("F16", "BF16", "F32")
_COMPUTE = {
    "torch.float16": np.dtype(np.float16),
    "torch.bfloat16": np.dtype(ml_dtypes.bfloat16),
    "torch.float32": np.dtype(np.float32),
}
_LEAST_GROUP = 8


@dataclass(frozen=True, slots=True)
class _Packed:
    """What HQQ says of one packed matrix.

    Parameters
    ----------
    bits : int
    packing : str
    shape : tuple of int
        Of the matrix before it was cut into groups.
    groups : tuple of int
        Of the matrix as it was packed, with a group in each row or, for axis 0, column.
    axis : int
    """

    bits: int
    packing: str
    shape: tuple[int, ...]
    groups: tuple[int, int]
    axis: int


class HqqImporter(SafetensorsImporter):
    """HQQ's layers of 1, 1.58, 2, 3, 4, 5, 6 and 8 bits with groups along the inputs, ``axis=1``.

    ``w = (W_q - zero) * scale``, with floats for both: a group's scales are ``scale`` and
    ``-zero * scale``. Scales and zero-points that are themselves quantised are first brought back,
    in the type that HQQ computes in, as HQQ does.

    Files are safetensors, as Transformers writes them, or ``qmodel.pt``.

    Source
    ------
    hqq 0.2.8, hqq/core/quantize.py, ``Quantizer.dequantize`` and ``HQQLinear.state_dict``.
    """

    name = "hqq"
    summary = "HQQ, 1 to 8 bits, axis=1"
    marker = ".W_q"
    suffixes = (
        *(f".{prefix}{key}" for prefix in ("", _META) for key in _KEYS),
        *(
            f".{prefix}{part}.{key}"
            for prefix in ("", _META)
            for part in _NESTED
            for key in _NESTED_KEYS
        ),
    )

    def __init__(self, source: CheckpointSource):
        super().__init__(source)
        self._values: dict[str, Any] = {}
        for file in source.files:
            if isinstance(file, TorchFile):
                self._values |= file.values

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether there are tensors named as HQQ names them."""
        return any(name.endswith(cls.marker) for name in source.tensor_names)

    def size(self, layer: str) -> int:
        """Return a layer's number of weights."""
        return math.prod(self._shape(layer, ""))

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer."""
        packed = self._packed(layer, "")
        if packed.axis != 1:
            raise ValueError(
                "HQQ's groups are along the outputs (axis=0), but Lutra's have to be along the "
                "inputs; quantise with axis=1"
            )
        rows, columns = packed.shape
        codes = self._codes(f"{layer}.W_q", packed).reshape(rows, columns)
        if codes.max() >> packed.bits:
            raise FileError(f"Tensor '{layer}.W_q' has codes of more than {packed.bits} bits")
        size = math.gcd(columns, packed.groups[1])
        if size < min(_LEAST_GROUP, packed.groups[1]):
            raise FileError(
                f"Groups of {packed.groups[1]} weights go across rows of {columns}, which no size "
                f"of at least {_LEAST_GROUP} divides both"
            )
        # A group that goes on in the next row is cut, and its scales stand in both.
        group = np.arange(0, rows * columns, size) // packed.groups[1]
        scale, zero = self._scales(layer, packed)
        if not np.isfinite(scale).all() or not np.isfinite(zero).all():
            raise FileError("HQQ's scales and zero-points must be finite once brought back")
        wide = scale.astype(np.float64)[group].reshape(rows, -1)
        offset = -wide * zero.astype(np.float64)[group].reshape(rows, -1)
        form = f"int{packed.bits}_affine"
        if packed.bits == 1:
            # A sign: half a step below the middle and half a step above.
            form, wide, offset = "bcq1_asym", wide / 2, _exact_sum(wide / 2, offset)
        return exact_matrix(
            codes=codes,
            members=member(form),
            group_size=size,
            scales=np.stack([wide, offset], axis=2),
            bias=self.bias(layer, rows),
        )

    def _scales(self, layer: str, packed: _Packed) -> tuple[npt.NDArray, npt.NDArray]:
        """Return scale and zero-point of each group."""
        count = packed.groups[0]
        both = self._name(layer, "zero_scale")
        if both is not None:
            if self._flag(layer, "quant_scale") or self._flag(layer, "quant_zero"):
                raise FileError(
                    f"Tensor {both!r} has scales and zero-points that are quantised and stacked, "
                    "which is not imported; quantise with offload_meta=False"
                )
            stacked = self._floats(both, (2, count, 1))
            return stacked[1].reshape(-1), stacked[0].reshape(-1)
        return self._part(layer, "scale", count), self._part(layer, "zero", count)

    def _part(self, layer: str, part: str, count: int) -> npt.NDArray:
        """Return the scales or the zero-points, shape (count,)."""
        if not self._flag(layer, f"quant_{part}"):
            return self._floats(self._must(layer, part), (count, 1)).reshape(-1)
        inner = f"meta_{part}."
        packed = self._packed(layer, inner)
        if math.prod(packed.shape) != count:
            raise FileError(f"There must be {count} numbers in {part}_q, not {packed.shape}")
        compute = self._compute_type(layer, inner)
        codes = self._codes(self._must(layer, f"{part}_q"), packed).astype(compute)
        shape = (packed.groups[0], 1) if packed.axis else (1, packed.groups[1])
        step, zero = (
            self._floats(self._must(layer, inner + key), shape, or_one=True).astype(compute)
            for key in ("scale", "zero")
        )
        with np.errstate(over="ignore", invalid="ignore"):  # reported with the scales
            return ((codes - zero) * step).reshape(-1).astype(np.float32)

    def _compute_type(self, layer: str, inner: str) -> np.dtype:
        name = self._text(layer, f"{inner}compute_dtype", "torch.float16")
        if name not in _COMPUTE:
            raise FileError(f"HQQ must compute in one of {', '.join(_COMPUTE)}, not {name!r}")
        return _COMPUTE[name]

    def _codes(self, name: str, packed: _Packed) -> npt.NDArray[np.uint8]:
        """Read packed codes, shape ``packed.groups``."""
        kind, share, _ = PACKINGS[packed.packing]
        view = _VIEWS[kind]
        rows, columns = packed.groups
        entry = self.source.entry(name)
        shape = (-(-rows // share), columns)
        # HQQ may keep the same bytes as floats.
        if entry.dtype in _FLOATS and len(entry.shape) == 2:
            values = self.source.read(name)
            if entry.shape[1] * values.itemsize != columns * view.itemsize:
                raise FileError(f"Tensor {name!r} of shape {entry.shape} cannot be {shape} {kind}")
            values = values.view(view)
            if values.shape != shape:
                raise FileError(f"Tensor {name!r} of shape {entry.shape} cannot be {shape} {kind}")
        else:
            values = self.array(name, (kind,), shape)
        return unpack_hqq(values, packed.packing, rows)

    def _packed(self, layer: str, inner: str) -> _Packed:
        """Read what is said of a matrix: of the weights, or of scales that are quantised."""
        bits = self._number(layer, f"{inner}nbits")
        known = {round(key, 4): value for key, value in _BITS.items()}.get(round(bits, 4))
        if known is None:
            raise FileError(f"HQQ's codes must have {', '.join(map(str, _BITS))} bits, not {bits}")
        packing = self._text(layer, f"{inner}packing", "")
        if packing not in PACKINGS or PACKINGS[packing][2] < known:
            raise FileError(
                f"HQQ's codes of {known} bits must be packed as one of {', '.join(PACKINGS)}, "
                f"not {packing!r}"
            )
        axis = self._number(layer, f"{inner}axis")
        if axis not in (0, 1):
            raise FileError(f"HQQ's axis must be 0 or 1, not {axis}")
        shape = self._shape(layer, inner)
        groups = self._groups(layer, inner, shape, int(axis))
        return _Packed(known, packing, shape, groups, int(axis))

    def _groups(self, layer: str, inner: str, shape: tuple[int, ...], axis: int) -> tuple[int, int]:
        """Return the shape with a group in each row, or each column for axis 0."""
        size = self._optional_number(layer, f"{inner}group_size")
        whole = not self._flag(layer, f"{inner}channel_wise", default=True)
        if whole and not inner:
            raise ValueError(
                "HQQ has one scale for all of the layer (channel_wise=False), which is not imported"
            )
        if size is None or whole:
            return shape[0], math.prod(shape[1:])
        if size != int(size) or size < 1 or math.prod(shape) % size:
            raise FileError(f"HQQ's group_size must divide the weights, {shape}, not be {size}")
        count = math.prod(shape) // int(size)
        return (count, int(size)) if axis else (int(size), count)

    def _shape(self, layer: str, inner: str) -> tuple[int, ...]:
        name = self._name(layer, f"{inner}shape")
        found: Any = self._values.get(name) if name in self._values else None
        if name is not None and found is None:
            self.check(name, ("I64", "I32"), (2,))
            found = self.source.read(name).tolist()
        if (
            not isinstance(found, list | tuple)
            or len(found) != 2
            or any(type(size) is not int or size < 1 for size in found)
        ):
            raise FileError(f"HQQ's {inner}shape must be two sizes, not {found!r:.60}")
        return tuple(found)

    def _floats(
        self, name: str, shape: tuple[int, ...], *, or_one: bool = False
    ) -> npt.NDArray[np.float32]:
        """Read finite floats of a shape, or a single one where that may stand for all."""
        if or_one and self.source.entry(name).shape in ((), (1,), (1, 1)):
            return np.broadcast_to(self.source.floats(name).reshape(()), shape)
        return self.floats(name, shape)

    def _must(self, layer: str, key: str) -> str:
        """Return the name of a tensor that a layer must have."""
        return self._name(layer, key) or f"{layer}.{key}"

    def _name(self, layer: str, key: str) -> str | None:
        """Return the full name of a tensor or value, where there is one."""
        for name in (f"{layer}.{key}", f"{layer}.{_META}{key}"):
            if name in self._values or self.has(name):
                return name
        return None

    def _number(self, layer: str, key: str) -> float:
        found = self._optional_number(layer, key)
        if found is None:
            raise FileError(f"HQQ's {key} is missing")
        return found

    def _optional_number(self, layer: str, key: str) -> float | None:
        name = self._name(layer, key)
        found: Any = None
        if name in self._values:
            found = self._values[name]
        elif name is not None:
            entry = self.source.entry(name)
            if math.prod(entry.shape) == 1 and entry.dtype in ("U8", "I64", "I32", "F32"):
                found = self.source.read(name).reshape(-1)[0].item()
            else:
                raise FileError(f"Tensor {name!r} must be one number, not of shape {entry.shape}")
        if found is not None and (
            not isinstance(found, bool | int | float) or not math.isfinite(found)
        ):
            raise FileError(f"HQQ's {key} must be a number, not {found!r:.60}")
        return found

    def _flag(self, layer: str, key: str, *, default: bool = False) -> bool:
        found = self._optional_number(layer, key)
        return default if found is None else bool(found)

    def _text(self, layer: str, key: str, default: str) -> str:
        name = self._name(layer, key)
        if name is None:
            return default
        if name in self._values:
            return str(self._values[name])
        entry = self.source.entry(name)
        if entry.dtype != "U8" or len(entry.shape) != 1 or entry.shape[0] > 64:
            raise FileError(f"Tensor {name!r} must be a word, not {entry.dtype} of {entry.shape}")
        return bytes(self.source.read(name)).decode("latin-1")


def _exact_sum(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Add where nothing is rounded off."""
    total = a + b
    if not (np.array_equal(total - a, b) and np.array_equal(total - b, a)):
        raise ValueError("Scales of one bit and zero-points of this layer need more than 31 bits")
    return total
