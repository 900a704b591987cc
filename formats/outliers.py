"""Single weights beside the dense codes of a layer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Outliers"]

_PEAK = 1 << 40


@dataclass(frozen=True, eq=False)
class Outliers:
    """Sparse integers that are added to a layer's integer weights, as compressed rows.

    Parameters
    ----------
    row_pointers : int64 array, shape (N + 1,)
        Where each row begins among the entries; from 0, not falling, up to their number.
    columns : int32 array, shape (entries,)
        Columns of the codes, rising within a row.
    values : int64 array, shape (entries,)
        In steps of the row's scale; magnitudes of at most 2^40.

    Raises
    ------
    :exc:`ValueError`
        If an array is not as stated.

    Source
    ------
    Kim et al., SqueezeLLM, ICML 2024, section 4.2: dense-and-sparse decomposition.
    """

    row_pointers: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    values: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype in (("row_pointers", "int64"), ("columns", "int32"), ("values", "int64")):
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != 1:
                raise ValueError(
                    f"{name} of outliers must be a vector of {dtype}, not {array.dtype} of shape "
                    f"{array.shape}"
                )
        pointers = self.row_pointers
        if not len(pointers) or pointers[0] or (np.diff(pointers) < 0).any():
            raise ValueError("Row pointers of outliers must rise from 0")
        if not len(self.columns) == len(self.values) == pointers[-1]:
            raise ValueError(
                f"Outliers must have {int(pointers[-1])} columns and values, as the row pointers "
                f"say, not {len(self.columns)} and {len(self.values)}"
            )
        rows = self.entry_rows
        again = (np.diff(rows) == 0) & (np.diff(self.columns) <= 0)
        if len(self.columns) and (self.columns.min() < 0 or again.any()):
            raise ValueError("Columns of outliers must be 0 or more and rise within each row")
        if np.abs(self.values, dtype=np.int64).max(initial=0) > _PEAK or (
            self.values.min(initial=0) < -_PEAK
        ):
            raise ValueError(f"Values of outliers must be within ±{_PEAK}")

    @classmethod
    def of(cls, weights: npt.NDArray[np.int64]) -> "Outliers":
        """Take all that is not 0 of an integer matrix, shape (N, K)."""
        rows, columns = np.nonzero(weights)
        counts = np.bincount(rows, minlength=len(weights))
        return cls(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            columns.astype(np.int32),
            weights[rows, columns].astype(np.int64),
        )

    @property
    def entry_rows(self) -> npt.NDArray[np.int64]:
        """Row of each entry, shape (entries,)."""
        return np.repeat(np.arange(len(self.row_pointers) - 1), np.diff(self.row_pointers))
