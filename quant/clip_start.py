"""Where the search for each group's bounds begins."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..formats import AffineFormat, Family, NumberFormat, ValueFormat
from .float_scaled import FloatScaledMatrix
from .row_tables import usable_codes

__all__ = ["ClipStart"]

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipStart:
    """Ranges of the groups of a layer, and how much of each is spanned at first.

    Parameters
    ----------
    members : tuple of NumberFormat
        Value formats, all with a zero-point or none, or one affine format.
    group_size : int
    format_ids : uint8 array, shape (N, G)
    high, low : float32 arrays, shape (N, G)
        Greatest and least weight of each group; 0 at most and at least for formats that have to
        keep the value 0.
    high_ratio, low_ratio : float32 arrays, shape (N, G)
        Factors to begin with, up to 1.
    """

    members: tuple[NumberFormat, ...]
    group_size: int
    format_ids: npt.NDArray[np.uint8]
    high: _Floats
    low: _Floats
    high_ratio: _Floats
    low_ratio: _Floats

    @classmethod
    def of(cls, weights: _Floats, family: Family, found: FloatScaledMatrix) -> "ClipStart":
        """Take the formats and scales that a search found as a start."""
        starts = np.arange(0, weights.shape[1], found.group_size)
        high = np.maximum.reduceat(weights, starts, axis=1)
        low = np.minimum.reduceat(weights, starts, axis=1)
        start = cls(
            members=family.members,
            group_size=found.group_size,
            format_ids=found.format_ids,
            high=high,
            low=low,
            high_ratio=np.ones_like(high),
            low_ratio=np.ones_like(low),
        )
        if isinstance(family.members[0], AffineFormat):
            return start
        high, low = np.maximum(high, 0), np.minimum(low, 0)
        extent = high - low if start.has_offset else np.maximum(high, -low)
        full = extent / start.reach
        step = found.scales[:, :, 0]
        ratio = np.where(full > 0, step / np.where(full > 0, full, 1), 1).astype(np.float32)
        ratio = np.minimum(ratio, 1)
        return cls(**{**start.__dict__, "high": high, "low": low, "high_ratio": ratio,
                      "low_ratio": ratio})  # fmt: skip

    @property
    def groups(self) -> int:
        """Groups of a row, G."""
        return self.high.shape[1]

    @property
    def is_affine(self) -> bool:
        """Whether the offset can be any number."""
        return isinstance(self.members[0], AffineFormat)

    @property
    def has_zero_point(self) -> bool:
        """Whether the offset is one of the values."""
        return self.members[0].has_zero_point

    @property
    def has_offset(self) -> bool:
        """Whether the values need not be centred at 0."""
        return self.is_affine or self.has_zero_point

    @property
    def values(self) -> list[list[int]]:
        """Values of each member's usable codes, ascending."""
        return [
            sorted(
                item.values[code] if isinstance(item, ValueFormat) else code
                for code in usable_codes(item)
            )
            for item in self.members
        ]

    @property
    def reach(self) -> npt.NDArray[np.float64]:
        """What a group's range is divided by for its step, shape (N, G)."""
        ends = [(values[0], values[-1]) for values in self.values]
        offset = self.has_offset
        reach = [high - low if offset else max(abs(low), abs(high)) for low, high in ends]
        return np.array(reach, dtype=np.float64)[self.format_ids]
