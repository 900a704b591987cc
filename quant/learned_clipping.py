"""Round to nearest, with bounds that are learned for the layer's output."""

import numpy as np
import numpy.typing as npt

from ..formats import AffineFormat, Family, QuantizedMatrix, ValueFormat
from .calibration import LayerCalibration
from .clip_start import ClipStart
from .column_factors import column_factors
from .float_scaled import FloatScaledMatrix
from .group_searches import find_search
from .groups import search_groups
from .input_hessian import damped_hessian
from .nearest_codes import nearest_codes

__all__ = ["can_clip", "learned_clipping"]

_Floats = npt.NDArray[np.float32]


def can_clip(family: Family) -> bool:
    """Whether a family's formats have a range to clip: values of one kind, or affine codes."""
    if all(isinstance(item, ValueFormat) for item in family.members):
        return len({item.has_zero_point for item in family.members}) == 1
    return len(family.members) == 1 and isinstance(family.members[0], AffineFormat)


def learned_clipping(
    weights: _Floats,
    family: Family,
    group_size: int,
    scale_width: int,
    *,
    calibration: LayerCalibration,
    start: str = "auto",
    steps: int = 100,
    rate: float = 0.1,
    damping: float = 0.01,
    device: str = "cpu",
) -> QuantizedMatrix:
    """Quantise with learned weight clipping.

    The greatest and the least weight of each group are multiplied by sigmoids, which are learned by
    Adam so that the squared error of the layer's outputs on calibration data falls; formats without
    an offset have one for both. Each row ends with the best of all steps for it. OmniQuant learns
    blocks of layers at once and has two sigmoids for all formats.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    family : Family
        Value formats, or an affine format.
    group_size : int
        1 to K.
    scale_width : int
        Magnitude bits of a group scale.
    calibration : LayerCalibration
    start : str
        Method whose formats and scales are the first step; "auto" is the best for the family, with
        squared errors multiplied by the mean squares of the inputs.
    steps : int
        Steps of Adam.
    rate : float
        Learning rate, of the sigmoids' arguments.
    damping : float
        Added to the diagonal of the inputs' Hessian, as a share of its mean.
    device : str
        "cpu" or "cuda".

    Raises
    ------
    :exc:`ValueError`
        If PyTorch is not installed or sees no such device.

    Source
    ------
    Shao et al., OmniQuant, ICLR 2024, section 3.2, learnable weight clipping.
    """
    from .learned import LearnedClipping

    found = search_groups(
        weights,
        find_search(family, start),
        members=family.members,
        group_size=group_size,
        column_factors=column_factors("activation", calibration),
    )
    begin = ClipStart.of(weights, family, found)
    hessian = damped_hessian(calibration.inputs, damping)
    high, low = LearnedClipping(weights, hessian, begin, device).learn(steps, rate)
    clipped = _clipped(begin, high, low, np.zeros(weights.shape, np.uint8))
    return nearest_codes(weights, clipped.split(scale_width))


def _clipped(
    start: ClipStart,
    high_ratio: _Floats,
    low_ratio: _Floats,
    codes: npt.NDArray[np.uint8],
) -> FloatScaledMatrix:
    """Return scales and zero-points for given factors; codes are still to be found."""
    high = high_ratio * start.high.astype(np.float64)
    low = low_ratio * start.low.astype(np.float64)
    zeros = np.zeros(high.shape, np.uint8)
    if not start.has_offset:
        step = high_ratio * np.maximum(start.high, -start.low).astype(np.float64) / start.reach
        scales = step[..., None]
    else:
        step = (high - low) / start.reach
        scales = np.stack([step, low], axis=-1) if start.is_affine else step[..., None]
    if start.has_zero_point:
        for index, item in enumerate(start.members):
            assert isinstance(item, ValueFormat)
            values = np.array(item.values)
            place = values.min() - low / np.where(step > 0, step, 1)
            nearest = np.abs(values - np.rint(place)[..., None]).argmin(axis=-1)
            zeros = np.where(start.format_ids == index, nearest, zeros).astype(np.uint8)
    return FloatScaledMatrix(
        members=start.members,
        group_size=start.group_size,
        codes=codes,
        format_ids=start.format_ids,
        scales=scales.astype(np.float32),
        zeros=zeros,
    )
