"""A quantised weight matrix: the one thing that quantisers make and every back end takes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .codebook import CodebookFormat, CodebookSlot
from .number_format import MAX_SCALE_WIDTH, NumberFormat
from .outliers import Outliers

__all__ = ["QuantizedMatrix"]

_WEIGHT_WIDTH = 62  # so that integer weights, and what is taken off them, are int64


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedMatrix:
    """Codes, formats and scales of one layer, as section 2 of the arithmetic contract has them.

    ``W[n, k] = row_scales[n] * w[n, k]`` with an integer ``w`` that the code, the group's format,
    its scales and its zero-point determine (:meth:`NumberFormat.weight_table`). Group ``g`` of a
    row holds columns ``g * group_size`` up to ``(g + 1) * group_size``; the last may be shorter.

    Parameters
    ----------
    members : tuple of NumberFormat
        Formats that ``format_ids`` indexes; of codebooks at most one of each code width.
    group_size : int
        Columns of one group, at least 1; ``K`` or more for whole rows.
    codes : uint8 array, shape (N, K)
        One code a weight.
    format_ids : uint8 array, shape (N, G)
        Index into ``members`` for each group; ``G = ceil(K / group_size)``.
    scales : int32 array, shape (N, G, C)
        Signed group scales; ``C`` is the largest ``scale_count`` of the members, unused are 0.
    zeros : uint8 array, shape (N, G)
        Zero-point codes; 0 where the group's format has none.
    row_scales : float32 array, shape (N,)
        Finite scale of each row.
    scale_width : int
        Magnitude bits of a scale, 1 to 31.
    bias : float32 array, shape (N,), optional
        Added by the host, in float32, to the engine's float32 output.
    column_order : int32 array, shape (K,), optional
        Column ``k`` of the codes multiplies element ``column_order[k]`` of a token: a permutation,
        by default none. Integers make it exact. Whoever streams tokens arranges them
        (:meth:`arrange`).
    outliers : Outliers, optional
        Sparse integers added to the weights; their columns are those of the codes. Engines have no
        path for them: :func:`pack` refuses such a layer.

    Raises
    ------
    :exc:`ValueError`
        If a shape, a type or a range is not as stated.
    """

    members: tuple[NumberFormat, ...]
    group_size: int
    codes: npt.NDArray[np.uint8]
    format_ids: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.int32]
    zeros: npt.NDArray[np.uint8]
    row_scales: npt.NDArray[np.float32]
    scale_width: int = 8
    bias: npt.NDArray[np.float32] | None = None
    column_order: npt.NDArray[np.int32] | None = None
    outliers: Outliers | None = None

    def __post_init__(self) -> None:
        self._check_codebooks()
        self._check_shapes()
        self._check_ranges()

    def _check_codebooks(self) -> None:
        for item in self.members:
            if isinstance(item, CodebookSlot):
                raise ValueError(item.no_values)
        widths = [item.code_width for item in self.members if isinstance(item, CodebookFormat)]
        for width in widths:
            if widths.count(width) > 1:
                raise ValueError(
                    f"A layer has at most one codebook of {width}-bit codes, "
                    f"not {widths.count(width)}"
                )

    def _check_shapes(self) -> None:
        if self.codes.ndim != 2 or not self.codes.size:
            raise ValueError(f"Codes must be a matrix, not an array of shape {self.codes.shape}")
        if self.group_size < 1:
            raise ValueError(f"Group size must be at least 1, not {self.group_size!r}")
        rows, groups = self.rows, self.groups
        scale_count = max(item.scale_count for item in self.members)
        for name, dtype, shape in (
            ("codes", np.uint8, (rows, self.columns)),
            ("format_ids", np.uint8, (rows, groups)),
            ("scales", np.int32, (rows, groups, scale_count)),
            ("zeros", np.uint8, (rows, groups)),
            ("row_scales", np.float32, (rows,)),
            ("bias", np.float32, (rows,)),
            ("column_order", np.int32, (self.columns,)),
        ):
            array: npt.NDArray | None = getattr(self, name)
            if array is None:  # only what is optional
                continue
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(
                    f"{name} must be {np.dtype(dtype).name} of shape {shape}, "
                    f"not {array.dtype} of shape {array.shape}"
                )

    def _check_ranges(self) -> None:
        if not 1 <= self.scale_width <= MAX_SCALE_WIDTH:
            raise ValueError(
                f"Scale width must be in 1..{MAX_SCALE_WIDTH}, not {self.scale_width!r}"
            )
        limit = (1 << self.scale_width) - 1
        largest = max(int(self.scales.max()), -int(self.scales.min()))
        if largest > limit:
            raise ValueError(
                f"Group scales must be within ±{limit} for scale width {self.scale_width}, "
                f"not {largest}"
            )
        if self.format_ids.max() >= len(self.members):
            raise ValueError(
                f"Format ids must be below {len(self.members)}, not {int(self.format_ids.max())}"
            )
        if not np.isfinite(self.row_scales).all():
            raise ValueError("Row scales must be finite; remove NaN and infinity")
        if self.bias is not None and not np.isfinite(self.bias).all():
            raise ValueError("The bias must be finite; remove NaN and infinity")
        order = self.column_order
        if order is not None and not np.array_equal(np.sort(order), np.arange(self.columns)):
            raise ValueError(f"column_order must name each of the {self.columns} columns once")
        if self.outliers is not None:
            self._check_outliers(self.outliers)
        if self._weight_peak >> _WEIGHT_WIDTH:
            raise ValueError(
                f"Integer weights must fit {_WEIGHT_WIDTH} bits, but scales up to {largest} times "
                f"values up to {max(item.peak for item in self.members)} do not"
            )
        widths = np.array([item.code_width for item in self.members], dtype=np.uint8)
        group_widths = widths[self.format_ids]
        if (self.zeros >> group_widths).any():
            raise ValueError("Zero-points must be codes of their group's format")
        has_zero = np.array([item.has_zero_point for item in self.members])[self.format_ids]
        if self.zeros[~has_zero].any():
            raise ValueError("Zero-points must be 0 where the group's format has none")
        code_widths = np.uint8(widths.min())
        if (self.codes >> code_widths).any() and (self.codes >> self.expand(group_widths)).any():
            raise ValueError("Codes must fit the code width of their group's format")

    def _check_outliers(self, outliers: Outliers) -> None:
        if len(outliers.row_pointers) != self.rows + 1:
            raise ValueError(
                f"Outliers must have {self.rows + 1} row pointers, not {len(outliers.row_pointers)}"
            )
        if outliers.columns.max(initial=0) >= self.columns:
            raise ValueError(
                f"Columns of outliers must be below {self.columns}, "
                f"not {int(outliers.columns.max())}"
            )

    @property
    def _weight_peak(self) -> int:
        """Largest magnitude that an integer weight, or a part of one, can have."""
        largest = max(int(self.scales.max()), -int(self.scales.min()))
        outliers = 0
        if self.outliers is not None:
            outliers = int(np.abs(self.outliers.values).max(initial=0))
        return largest * max(item.peak for item in self.members) + outliers

    @property
    def rows(self) -> int:
        """Output features, N."""
        return self.codes.shape[0]

    @property
    def columns(self) -> int:
        """Input features, K."""
        return self.codes.shape[1]

    @property
    def groups(self) -> int:
        """Groups of a row, G."""
        return -(-self.columns // self.group_size)

    def expand(self, per_group: npt.NDArray) -> npt.NDArray:
        """Repeat an array of shape (N, G) along its groups, to shape (N, K)."""
        if self.groups == 1:
            return np.broadcast_to(per_group, self.codes.shape)
        return np.repeat(per_group, self.group_size, axis=1)[:, : self.columns]

    def arrange(self, x: npt.NDArray) -> npt.NDArray:
        """Return tokens, shape (M, K), with their elements in the order of the codes' columns."""
        return x if self.column_order is None else x[:, self.column_order]

    def integer_weights(self) -> npt.NDArray[np.signedinteger]:
        """Return ``w``, the weights in steps of their row's scale.

        Returns
        -------
        int32 or int64 array, shape (N, K)
            Exact; int32 wherever the largest scale and value allow it. Columns are those of the
            codes.
        """
        entries = 1 << max(item.code_width for item in self.members)
        dtype = np.int64 if self._weight_peak >> 31 else np.int32
        group_tables = np.zeros((self.rows, self.groups, entries), dtype=dtype)
        for index, item in enumerate(self.members):
            chosen = self.format_ids == index
            table = item.weight_table(self.scales[chosen][:, : item.scale_count])
            if item.has_zero_point:
                zero = self.zeros[chosen].astype(np.int64)[:, None]
                table = table - np.take_along_axis(table, zero, axis=1)
            group_tables[chosen, : 1 << item.code_width] = table
        flat = group_tables.reshape(self.rows, -1)
        weights = np.empty(self.codes.shape, dtype=dtype)
        for group in range(self.groups):
            columns = slice(group * self.group_size, (group + 1) * self.group_size)
            index = self.codes[:, columns].astype(np.intp) + entries * group
            weights[:, columns] = np.take_along_axis(flat, index, axis=1)
        if self.outliers is not None:
            sparse = self.outliers
            weights[sparse.entry_rows, sparse.columns] += sparse.values.astype(dtype)
        return weights

    def dequantize(self) -> npt.NDArray[np.float64]:
        """Return the weights as float64 of shape (N, K), in the order of a token's elements.

        Exact unless integers of over 29 bits meet a row scale that is no power of two.
        """
        ordered = self.integer_weights() * self.row_scales.astype(np.float64)[:, None]
        if self.column_order is None:
            return ordered
        weights = np.empty_like(ordered)
        weights[:, self.column_order] = ordered
        return weights

    @property
    def code_bits(self) -> int:
        """Bits of all codes at their formats' true widths."""
        lengths = np.full(self.groups, self.group_size, dtype=np.int64)
        lengths[-1] = self.columns - (self.groups - 1) * self.group_size
        widths = np.array([item.code_width for item in self.members], dtype=np.int64)
        return int((widths[self.format_ids] * lengths).sum())
