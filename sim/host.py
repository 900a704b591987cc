"""What is left to the host: steps in float32 after the engine, which no engine ever sees."""

import numpy as np
import numpy.typing as npt

from ..formats import FLOATS

__all__ = ["add_bias", "scale_tokens"]


def scale_tokens(
    y: npt.NDArray[np.float32], token_scales: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Multiply an engine's float32 result by one scale a token, with one rounding half to even.

    For int8 activations that a caller has quantised. IEEE arithmetic of a host: subnormal results
    are kept, and every NaN is the engine's quiet NaN.

    Parameters
    ----------
    y : float32 array, shape (M, N)
    token_scales : float32 array, shape (M,)
        Finite.

    Returns
    -------
    float32 array, shape (M, N)

    Raises
    ------
    :exc:`ValueError`
        If a type or shape is not as stated, or a scale is not finite.
    """
    _check(y, token_scales, "Token scales", y.shape[:1])
    with np.errstate(all="ignore"):
        return _one_nan(y * token_scales[:, None])


def add_bias(y: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Add one number a row of weights to a float32 result, with one rounding half to even.

    After :func:`scale_tokens` where both are used.

    Parameters
    ----------
    y : float32 array, shape (M, N)
    bias : float32 array, shape (N,)
        Finite.

    Returns
    -------
    float32 array, shape (M, N)

    Raises
    ------
    :exc:`ValueError`
        If a type or shape is not as stated, or a bias is not finite.
    """
    _check(y, bias, "Bias", y.shape[1:])
    with np.errstate(all="ignore"):
        return _one_nan(y + bias)


def _check(y: npt.NDArray, factors: npt.NDArray, name: str, shape: tuple[int, ...]) -> None:
    if y.dtype != np.float32 or y.ndim != 2:
        raise ValueError(
            f"Outputs must be a matrix of float32, not {y.dtype.name} of shape {y.shape}"
        )
    if factors.dtype != np.float32 or factors.shape != shape:
        raise ValueError(
            f"{name} must be float32 of shape {shape}, "
            f"not {factors.dtype.name} of shape {factors.shape}"
        )
    if not np.isfinite(factors).all():
        raise ValueError(f"{name} must be finite; remove NaN and infinity")


def _one_nan(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give every NaN the same bits: the sign of infinity times 0 differs between processors."""
    y.view(np.uint32)[np.isnan(y)] = FLOATS["float32"].quiet_nan
    return y
