"""SqueezeLLM: a table of values for each row, and single weights beside it."""

import numpy as np
import numpy.typing as npt

from ...formats import Outliers, QuantizedMatrix, member
from ..exact_scales import exact_scales
from ..file_error import FileError
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource
from .unpack import unpack_stream

__all__ = ["SqueezeLlmImporter"]

_WORD_BITS = 32
_BITS = {8: 3, 16: 4}  # by the entries of a row's table
_WIDEST = 62  # bits of an outlier that are counted; the matrix allows fewer


class SqueezeLlmImporter(SafetensorsImporter):
    """SqueezeLLM's layers of 3 and 4 bits, dense or dense and sparse.

    ``w = lookup_table[n, q]``: ``qweight`` int32 (K * bits / 32, N) has ``q``, lowest bits first
    along the inputs; ``lookup_table`` float32 (N, 2**bits). To this are added ``vals`` at ``cols``
    from ``rows[n]`` to ``rows[n + 1]``, and the columns of ``full_rows`` float32 (K, T), each to
    the row that ``full_row_indices`` names. ``startrows`` only shares out work.

    Source
    ------
    SqueezeLLM, squeezellm/quant.py, ``QuantLinearLUT``, and quant_cuda_kernel.cu.
    """

    name = "squeezellm"
    summary = "SqueezeLLM, 3 and 4 bits, dense and sparse"
    marker = ".lookup_table"
    suffixes = (
        ".qweight",
        ".rows",
        ".cols",
        ".vals",
        ".full_rows",
        ".full_row_indices",
        ".startrows",
    )

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether there are tensors named as SqueezeLLM names them."""
        return any(name.endswith(cls.marker) for name in source.tensor_names)

    def size(self, layer: str) -> int:
        """Return a layer's number of weights."""
        rows, columns, _ = self._sizes(layer)
        return rows * columns

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer."""
        rows, columns, bits = self._sizes(layer)
        words = self.array(f"{layer}.qweight", ("I32",), (columns * bits // _WORD_BITS, rows))
        codes = unpack_stream(np.ascontiguousarray(words.T), bits, columns)
        table = self.floats(f"{layer}.lookup_table", (rows, 1 << bits)).astype(np.float64)
        sparse = _Sparse(*self._sparse(layer, rows, columns), *self._full(layer, rows, columns))
        limits = _limits(table, sparse)
        integers, row_scales, _ = exact_scales(np.hstack([table, limits])[:, None])
        scales = np.ascontiguousarray(integers[:, :, :-1])
        largest = max(int(scales.max()), -int(scales.min()))
        return QuantizedMatrix(
            members=(member(f"free{bits}"),),
            group_size=columns,
            codes=codes,
            format_ids=np.zeros((rows, 1), dtype=np.uint8),
            scales=scales,
            zeros=np.zeros((rows, 1), dtype=np.uint8),
            row_scales=row_scales,
            scale_width=max(1, largest.bit_length()),
            outliers=sparse.outliers(row_scales) if sparse.values.size else None,
            bias=self.bias(layer, rows),
        )

    def _sizes(self, layer: str) -> tuple[int, int, int]:
        """Return rows, columns and bits, from shapes."""
        rows, entries = self.shape(f"{layer}.lookup_table", ("F32", "F16", "BF16"), 2)
        if entries not in _BITS:
            raise FileError(
                f"Tensor '{layer}.lookup_table' must have 8 or 16 entries a row, not {entries}"
            )
        bits = _BITS[entries]
        words, outputs = self.shape(f"{layer}.qweight", ("I32",), 2)
        if outputs != rows or words % bits:
            raise FileError(
                f"Tensor '{layer}.qweight' must have whole codes of {bits} bits for {rows} "
                f"outputs, not shape {(words, outputs)}"
            )
        return rows, words // bits * _WORD_BITS, bits

    def _sparse(
        self, layer: str, rows: int, columns: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return row, column and value of the sparse weights."""
        names = [f"{layer}.{part}" for part in ("rows", "cols", "vals")]
        if not any(self.has(name) for name in names):
            return _nothing()
        shape = self.source.entry(names[2]).shape
        if shape == (0,):
            return _nothing()
        (count,) = self.shape(names[2], ("F32", "F16", "BF16"), 1)
        pointers = self.array(names[0], ("I32",), (rows + 1,)).astype(np.int64)
        if pointers[0] or pointers[-1] != count or (np.diff(pointers) < 0).any():
            raise FileError(f"Tensor {names[0]!r} must rise from 0 to {count}")
        places = self.array(names[1], ("I32",), (count,)).astype(np.int64)
        if places.min() < 0 or places.max() >= columns:
            raise FileError(f"Tensor {names[1]!r} must have columns from 0 to {columns - 1}")
        entry_rows = np.repeat(np.arange(rows), np.diff(pointers))
        return entry_rows, places, self.floats(names[2], (count,))

    def _full(
        self, layer: str, rows: int, columns: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return row, column and value of the rows that are kept whole."""
        name, indices = f"{layer}.full_rows", f"{layer}.full_row_indices"
        if not self.has(name):
            return _nothing()
        shape = self.source.entry(name).shape
        count = shape[-1] if shape else 0
        if shape != (columns, count) or not count:
            raise FileError(f"Tensor {name!r} must be of {columns} inputs, not of shape {shape}")
        chosen = self.array(indices, ("I32",), (count,)).astype(np.int64)
        if chosen.min() < 0 or chosen.max() >= rows:
            raise FileError(f"Tensor {indices!r} must have rows from 0 to {rows - 1}")
        values = self.floats(name, (columns, count)).T.reshape(-1)
        return np.repeat(chosen, columns), np.tile(np.arange(columns), count), values


class _Sparse:
    """Single weights by row and column, of which some may be at one place; none is zero."""

    def __init__(self, *parts: npt.NDArray):
        rows, columns = (np.concatenate(parts[start::3]) for start in (0, 1))
        values = np.concatenate(parts[2::3]).astype(np.float64)
        order = np.lexsort((columns, rows))
        order = order[values[order] != 0]
        self.rows, self.columns, self.values = rows[order], columns[order], values[order]

    def outliers(self, row_scales: npt.NDArray[np.float32]) -> Outliers:
        """Write them as integers times the scales of their rows, which are powers of two."""
        exponents = np.frexp(row_scales)[1] - 1
        steps = np.ldexp(self.values, -exponents[self.rows])
        if np.abs(steps).max() >= 2.0**_WIDEST:
            row = int(self.rows[np.abs(steps).argmax()])
            raise ValueError(f"Outliers of row {row} need more than {_WIDEST} bits as integers")
        is_new = np.ones(len(steps), dtype=bool)
        is_new[1:] = (np.diff(self.rows) != 0) | (np.diff(self.columns) != 0)
        starts = np.flatnonzero(is_new)
        counts = np.bincount(self.rows[starts], minlength=len(row_scales))
        return Outliers(
            row_pointers=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            columns=self.columns[starts].astype(np.int32),
            values=np.add.reduceat(steps.astype(np.int64), starts),
        )


def _nothing() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)


def _limits(table: npt.NDArray[np.float64], sparse: _Sparse) -> npt.NDArray[np.float64]:
    """Return a power of two for each row of which all its outliers are multiples, (N, 1).

    None is larger than the row's largest entry: beyond that it is one of the entries' lowest bits
    that decides. As one more scale it makes the row's step small enough.
    """
    whole, exponents = np.frexp(sparse.values)
    digits = np.ldexp(whole, 53).astype(np.int64)
    lowest = np.ldexp((digits & -digits).astype(np.float64), exponents - 53)
    limits = np.full(len(table), np.inf)
    np.minimum.at(limits, sparse.rows, lowest)
    tops = np.ldexp(1.0, np.frexp(np.abs(table).max(axis=1))[1] - 1)
    has_entries, has_outliers = table.any(axis=1), np.isfinite(limits)
    bounded = np.where(has_entries, np.minimum(limits, tops), limits)
    return np.where(has_outliers, bounded, 0)[:, None]
