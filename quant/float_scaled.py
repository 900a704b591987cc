"""A quantised matrix whose scales have not yet been split into two levels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..formats import NumberFormat, QuantizedMatrix
from .row_scales import row_scales

__all__ = ["FloatScaledMatrix"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatScaledMatrix:
    """Codes and float scales of every group of a matrix; what can still be mixed with others.

    Parameters
    ----------
    members : tuple of NumberFormat
        What the format ids index.
    group_size : int
        Columns of one group.
    codes : uint8 array, shape (N, K)
    format_ids : uint8 array, shape (N, G)
    scales : float32 array, shape (N, G, C)
    zeros : uint8 array, shape (N, G)
    """

    members: tuple[NumberFormat, ...]
    group_size: int
    codes: npt.NDArray[np.uint8]
    format_ids: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.uint8]

    def rows(self, rows: slice) -> "FloatScaledMatrix":
        """Return some of the rows, as a view."""
        return FloatScaledMatrix(
            members=self.members,
            group_size=self.group_size,
            codes=self.codes[rows],
            format_ids=self.format_ids[rows],
            scales=self.scales[rows],
            zeros=self.zeros[rows],
        )

    def row_peaks(self) -> npt.NDArray[np.float32]:
        """Return the largest magnitude of each row's scales, shape (N,)."""
        return np.abs(self.scales).max(axis=(1, 2))

    def split(
        self, scale_width: int, peaks: npt.NDArray[np.float32] | None = None
    ) -> QuantizedMatrix:
        """Split the scales into two levels, as :func:`row_scales` does.

        Parameters
        ----------
        scale_width : int
            Magnitude bits of a group scale.
        peaks : float32 array, shape (N,), optional
            Largest scale of each row, where other formats of the row have larger ones.
        """
        integers, steps = row_scales(self.scales, scale_width, peaks)
        return QuantizedMatrix(
            members=self.members,
            group_size=self.group_size,
            codes=self.codes,
            format_ids=self.format_ids,
            scales=integers,
            zeros=self.zeros,
            row_scales=steps,
            scale_width=scale_width,
        )
