"""Powers of two by which input channels are brought closer together, exactly."""

import numpy as np
import numpy.typing as npt

__all__ = ["pre_shift"]


def pre_shift(
    inputs: npt.NDArray[np.floating], exponent_width: int, *, quantile: float = 1.0
) -> npt.NDArray[np.float64]:
    """Return the power of two to divide each input channel by, for activations in small floats.

    With all channels in one float format whose exponents have E bits, each channel gets an integer
    bias of its own: the power of two next to its largest input, but at most ``2**E - 1`` steps
    above the smallest channel's. The weights' columns are multiplied by the same powers, and the
    norm before them divided, as :func:`scale_norm` does: that moves no bit of a float32 mantissa.

    Parameters
    ----------
    inputs : float array, shape (M, K)
        Activations of the calibration data.
    exponent_width : int
        E, of the format of the activations.
    quantile : float
        Of the magnitudes of a channel, that stands for the largest.

    Returns
    -------
    float64 array, shape (K,)
        Powers of two; for channels of zeros the smallest.

    Source
    ------
    Liu et al., LLM-FP4, EMNLP 2023, section 3.3, pre-shifted exponent bias: the tensor's real part
    is left to the scale of the activations.
    """
    if exponent_width < 1:
        raise ValueError(f"The exponent must have at least 1 bit, not {exponent_width}")
    peaks = np.quantile(np.abs(inputs.astype(np.float64)), quantile, axis=0)
    used = peaks > 0
    if not used.any():
        return np.ones(len(peaks))
    exponents = np.round(np.log2(np.where(used, peaks, 1)))
    exponents[~used] = exponents[used].min()
    # Channels below the range keep what they have; the largest count.
    low = exponents.max() - ((1 << exponent_width) - 1)
    return np.exp2(np.maximum(exponents, low) - low)
