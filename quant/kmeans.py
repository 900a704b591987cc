"""Codebooks that are found for a layer's weights, with the few largest kept beside them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..formats import (
    CodebookFormat,
    CodebookSlot,
    Family,
    FreeFormat,
    Outliers,
    QuantizedMatrix,
)
from .calibration import LayerCalibration
from .column_factors import column_factors
from .float_scaled import FloatScaledMatrix
from .groups import quantize_groups
from .kmeans_search import ROUNDS
from .mse import mse_search
from .nearest_codes import nearest_codes
from .weighted_kmeans import weighted_kmeans

__all__ = ["has_free_values", "kmeans"]

_Floats = npt.NDArray[np.float32]
_BLOCK_WEIGHTS = 1 << 20
_BINS = 1 << 14  # of weights beside the largest of their group, where a layer shares a codebook
_PEAK = 127


def has_free_values(family: Family) -> bool:
    """Whether a family is one format whose values are still to be found."""
    return len(family.members) == 1 and isinstance(family.members[0], FreeFormat | CodebookSlot)


def kmeans(
    weights: _Floats,
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    weighting: str = "none",
    rounds: int = ROUNDS,
    outliers: float = 0.0,
    sensitive: float = 0.0,
    calibration: LayerCalibration | None = None,
) -> QuantizedMatrix:
    """Quantise to the codebooks of least weighted squared error, found by k-means.

    To a free format: every group, best a whole row, gets its own entries, which are rounded to
    integers of ``scale_width`` bits. To a codebook's slot: the layer gets one codebook of integers
    in -127..127, found for the weights divided by the largest of their group, and scales by the
    search of :func:`mse`.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        A free format, or a codebook's slot.
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale; free formats need more than 8 to be worth it.
    weighting : str
        "activation" multiplies squared errors by the mean squares of the inputs and the importance
        of the outputs: the diagonal of the Fisher information if inputs and gradients were not
        correlated.
    rounds : int
        Most rounds of k-means.
    outliers : float
        Share of the weights, those of the largest magnitudes, that is taken out of the codebook and
        kept beside it, to within half a step of the row.
    sensitive : float
        Share taken out besides, of the weights whose weighted squared error is largest once the
        codebook is found without them. SqueezeLLM takes those with the largest Fisher information,
        which needs gradients of every weight.
    calibration : LayerCalibration, optional
        Needed for the weighting.

    Raises
    ------
    :exc:`ValueError`
        If outliers are asked for beside a codebook's slot.

    Source
    ------
    Kim et al., SqueezeLLM, ICML 2024, sections 4.1 and 4.2.
    """
    columns = column_factors(weighting, calibration)
    factors = np.ones(weights.shape[1]) if columns is None else columns
    if isinstance(family.members[0], CodebookSlot):
        if outliers or sensitive:
            raise ValueError(
                f"Outliers go with formats such as free4, not with {family.name!r}, which engines "
                "decode and which have no path for them"
            )
        rows = np.ones(1) if calibration is None else calibration.importance
        entries = _shared_codebook(weights, factors, rows, group_size, family, rounds)
        found = Family(family.name, (CodebookFormat.of(entries),), family.summary)
        return quantize_groups(
            weights,
            mse_search(found),
            members=found.members,
            group_size=group_size,
            scale_width=scale_width,
            column_factors=columns,
        )
    sparse = _largest(np.abs(weights), outliers)
    made = _free(weights, factors, sparse, family, group_size, scale_width, rounds)
    if sensitive:
        errors = (made.dequantize() - weights) ** 2 * factors
        if calibration is not None:
            errors *= calibration.importance[:, None]
        errors[sparse] = 0
        sparse |= _largest(errors, sensitive)
        made = _free(weights, factors, sparse, family, group_size, scale_width, rounds)
    return _with_outliers(weights, made, sparse)


def _largest(values: npt.NDArray, share: float) -> npt.NDArray[np.bool_]:
    """Mark a share of all values, the largest; of equal ones those that come first."""
    chosen = np.zeros(values.shape, dtype=bool)
    count = round(share * values.size)
    if count:
        order = np.argsort(-values, axis=None, kind="stable")
        chosen.reshape(-1)[order[:count]] = True
    return chosen


def _free(
    weights, factors, sparse, family: Family, group_size: int, scale_width: int, rounds: int
) -> QuantizedMatrix:
    """Find the codebook of each group, for the weights that are not sparse."""
    rows, columns = weights.shape
    starts = range(0, columns, group_size)
    scales = np.zeros((rows, len(starts), 1 << family.code_width), dtype=np.float32)
    height = max(1, _BLOCK_WEIGHTS // group_size)
    for group, start in enumerate(starts):
        some = slice(start, start + group_size)
        for top in range(0, rows, height):
            block = slice(top, top + height)
            values = weights[block, some].T.astype(np.float64)
            each = np.where(sparse[block, some].T, 0.0, factors[some, None])
            centres = weighted_kmeans(values, each, scales.shape[2], rounds)
            scales[block, group] = centres.T
    shape = (rows, len(starts))
    found = FloatScaledMatrix(
        members=family.members,
        group_size=group_size,
        codes=np.zeros(weights.shape, np.uint8),
        format_ids=np.zeros(shape, np.uint8),
        scales=scales,
        zeros=np.zeros(shape, np.uint8),
    )
    return nearest_codes(weights, found.split(scale_width))


def _with_outliers(
    weights: _Floats, made: QuantizedMatrix, sparse: npt.NDArray[np.bool_]
) -> QuantizedMatrix:
    """Add what single weights lack, in steps of their rows, to what their codes stand for."""
    if not sparse.any():
        return made
    steps = made.row_scales.astype(np.float64)[:, None]
    wanted = np.rint(weights / np.where(steps > 0, steps, 1)).astype(np.int64)
    lacking = np.where(sparse, wanted - made.integer_weights(), 0)
    return replace(made, outliers=Outliers.of(lacking))


def _shared_codebook(
    weights: _Floats, factors, rows, group_size: int, family: Family, rounds: int
) -> npt.NDArray[np.int64]:
    """Return integers for a whole layer's codebook, ascending."""
    starts = np.arange(0, weights.shape[1], group_size)
    largest = np.maximum.reduceat(np.abs(weights), starts, axis=1)
    peaks = np.repeat(largest, group_size, axis=1)[:, : weights.shape[1]].astype(np.float64)
    shares = weights / np.where(peaks > 0, peaks, 1)
    # An error of a share costs as much as one of the weight, which is so many times as large.
    costs = peaks**2 * factors * np.broadcast_to(rows, (len(weights),))[:, None]
    bins = np.minimum(((shares + 1) * (_BINS / 2)).astype(np.int64), _BINS - 1).reshape(-1)
    masses = np.bincount(bins, costs.reshape(-1), minlength=_BINS).astype(np.float64)
    middles = (np.arange(_BINS, dtype=np.float64) + 0.5) * (2 / _BINS) - 1
    count = 1 << family.code_width
    centres = weighted_kmeans(middles[:, None], masses[:, None], count, rounds)[:, 0]
    top = float(np.abs(centres).max())
    return np.rint(centres * (_PEAK / top if top else 1)).astype(np.int64)
