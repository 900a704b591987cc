"""bitsandbytes: four-bit codes in blocks of the flattened weights."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...formats import QuantizedMatrix, member
from ..file_error import FileError
from .exact_matrix import exact_matrix
from .safetensors_importer import SafetensorsImporter
from .scale_rows import scale_rows
from .source import CheckpointSource
from .unpack import unpack_nibbles

__all__ = ["BitsAndBytesImporter"]

_STATE = ".weight.quant_state.bitsandbytes__"
_STATE_BYTES = 1 << 16
_LEAST = 8  # columns of a group; less would cost more bits of scales than of codes
# Values that the checkpoint's table must have, and what stands for them here.
_TABLES = {
    "nf4": (
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ),
    "fp4": tuple(sign * value / 12 for sign in (1, -1) for value in (0, 0.0625, 8, 12, 4, 6, 2, 3)),
}
_MEMBERS = {"nf4": "nf4", "fp4": "float4_bnb"}
_PEAKS = {"nf4": 127, "fp4": 192}
_TOLERANCE = 1e-6  # of the table in the file: it is printed and computed in float32


@dataclass(frozen=True)
class _State:
    """What the JSON of a layer says."""

    kind: str
    block: int
    rows: int
    columns: int
    nested_block: int
    nested_offset: float


class BitsAndBytesImporter(SafetensorsImporter):
    """bitsandbytes checkpoints of four bits, NF4 and FP4, their scales quantised again or not.

    ``weight`` has two codes a byte, the high one first, of the weights in the order of rows;
    ``weight.absmax`` one scale for each block of that order, often 64 weights: float32, or uint8
    codes of ``weight.nested_quant_map`` with ``weight.nested_absmax`` for each 256 of them and an
    offset. Blocks that reach over the end of a row become groups of the largest size that divides
    blocks and rows.

    - Scales are those of the format: ``absmax``, or ``nested_quant_map[code] * nested_absmax``
      plus ``nested_offset``, each step in float32.
    - NF4 is on the grid of Lutra's format ``nf4``, steps of 1/127 of a scale: its values are up to
      0.0037 scales away from bitsandbytes' table of floats.
    - FP4's values are on a grid of 1/192 exactly; bitsandbytes rounds thirds to float32.
    - A weight is ``absmax * value`` times ``float32(1 / 127)``, or ``float32(1 / 192)``.

    Source
    ------
    bitsandbytes 0.50.2, ``functional.QuantState``; tables of ``get_4bit_type``.
    """

    name = "bitsandbytes"
    summary = "bitsandbytes NF4 and FP4, also with double quantisation"
    marker = ".weight"
    suffixes = (
        ".weight.absmax",
        ".weight.quant_map",
        ".weight.nested_absmax",
        ".weight.nested_quant_map",
        *(f"{_STATE}{kind}" for kind in _TABLES),
    )

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether the configuration or the tensors' names say so."""
        method = source.config.get("quant_method")
        if method is not None:
            return method == "bitsandbytes"
        return any(_STATE in name for name in source.tensor_names)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the quantised layers, in the order of the files."""
        names = self.source.tensor_names
        return tuple(dict.fromkeys(name.partition(_STATE)[0] for name in names if _STATE in name))

    def size(self, layer: str) -> int:
        """Return a layer's number of weights, for progress, without reading it."""
        return 2 * self._octets(layer)

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer that there is; errors need not name it."""
        state = self._state(layer)
        rows, columns = state.rows, state.columns
        octets = self._octets(layer)
        if -(-rows * columns // 2) != octets:
            raise FileError(
                f"Tensor '{layer}.weight' must have {-(-rows * columns // 2)} bytes for {rows} x "
                f"{columns} weights, not {octets}"
            )
        self._check_table(layer, state.kind)
        scales = self._scales(layer, state)
        size = math.gcd(columns, state.block)
        if size < min(_LEAST, columns):
            raise FileError(
                f"Blocks of {state.block} weights reach over the ends of rows of {columns}, and "
                f"no size of at least {_LEAST} divides both"
            )
        blocks = np.arange(0, rows * columns, size) // state.block
        raw = self.source.read(f"{layer}.weight").reshape(-1).view(np.uint8)
        codes = unpack_nibbles(raw, high_first=True)[: rows * columns]
        if state.kind == "nf4" and not self.notes:
            self.notes.append(
                "NF4: scales are exact; values are on a grid of 1/127 and up to 0.0037 scales from "
                "the table of bitsandbytes"
            )
        matrix = exact_matrix(
            codes=codes.reshape(rows, columns),
            members=member(_MEMBERS[state.kind]),
            group_size=size,
            scales=scales[blocks].reshape(rows, -1),
            bias=self.bias(layer, rows),
        )
        # Not in the scales themselves: those of weights in float16 have few bits.
        return scale_rows(matrix, np.float32(1 / _PEAKS[state.kind]))

    def _octets(self, layer: str) -> int:
        """Return the bytes of a layer's codes, which may be stored as numbers of another type."""
        entry = self.source.entry(f"{layer}.weight")
        return entry.end - entry.start

    def _state(self, layer: str) -> _State:
        names = [name for kind in _TABLES if self.has(name := f"{layer}{_STATE}{kind}")]
        if len(names) != 1:
            raise FileError(f"It must have one quant_state of {' or '.join(_TABLES)}")
        length = self.shape(names[0], ("U8",), 1)[0]
        if length > _STATE_BYTES:
            raise FileError(f"Tensor {names[0]!r} must have at most {_STATE_BYTES} bytes")
        try:
            fields = json.loads(self.source.read(names[0]).tobytes())
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise FileError(f"Tensor {names[0]!r} must be a JSON object")
        kind = names[0].rpartition("__")[2]
        if fields.get("quant_type", kind) != kind:
            raise FileError(f"Tensor {names[0]!r} says that it is {fields['quant_type']!r}")
        shape = fields.get("shape")
        if not isinstance(shape, list) or len(shape) != 2:
            raise FileError(f"Tensor {names[0]!r} must have a shape of two numbers, not {shape!r}")
        offset = fields.get("nested_offset", 0.0)
        if not isinstance(offset, int | float) or not abs(offset) < 1e30:
            raise FileError(f"Tensor {names[0]!r} must have a finite nested_offset, not {offset!r}")
        return _State(
            kind=kind,
            block=_positive(fields.get("blocksize"), "blocksize", names[0]),
            rows=_positive(shape[0], "number of rows", names[0]),
            columns=_positive(shape[1], "number of columns", names[0]),
            nested_block=_positive(fields.get("nested_blocksize", 256), "block", names[0]),
            nested_offset=float(offset),
        )

    def _check_table(self, layer: str, kind: str) -> None:
        name = f"{layer}.weight.quant_map"
        table = self.floats(name, (16,))
        if not np.allclose(table, _TABLES[kind], rtol=0, atol=_TOLERANCE):
            raise FileError(f"Tensor {name!r} must be the table of {kind}; it has other values")

    def _scales(self, layer: str, state: _State) -> npt.NDArray[np.float32]:
        """Return one scale for each block."""
        name = f"{layer}.weight.absmax"
        count = -(-state.rows * state.columns // state.block)
        if not self.has(f"{layer}.weight.nested_absmax"):
            return self.floats(name, (count,))
        codes = self.array(name, ("U8",), (count,))
        table = self.floats(f"{layer}.weight.nested_quant_map", (256,))
        nested_count = -(-count // state.nested_block)
        nested = self.floats(f"{layer}.weight.nested_absmax", (nested_count,))
        with np.errstate(over="ignore"):  # what becomes infinite is refused with the scales
            scales = table[codes] * nested[np.arange(count) // state.nested_block]
            return scales + np.float32(state.nested_offset)


def _positive(value: Any, thing: str, name: str) -> int:
    if type(value) is not int or value < 1:
        raise FileError(f"Tensor {name!r} must have a positive {thing}, not {value!r}")
    return value
