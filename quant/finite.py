"""Arrays that can be quantised."""

import numpy as np
import numpy.typing as npt

__all__ = ["finite_bias", "finite_floats", "finite_weights"]

_ROWS_AT_ONCE = 256  # of a check, so that it needs little memory


def finite_weights(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return weights as float32 of shape (N, K), checked.

    Raises
    ------
    :exc:`ValueError`
        If they are of another shape, empty, or not finite real numbers.
    """
    matrix = finite_floats(values, "Weights", ndim=2)
    if not matrix.size:
        raise ValueError(f"Weights must have rows and columns, not shape {matrix.shape}")
    return matrix


def finite_bias(values: npt.ArrayLike, rows: int) -> npt.NDArray[np.float32]:
    """Return a bias as float32 of shape (N,), checked.

    Raises
    ------
    :exc:`ValueError`
        If it is of another shape, or not finite real numbers.
    """
    offsets = finite_floats(values, "Bias", ndim=1)
    if offsets.shape != (rows,):
        raise ValueError(f"Bias must have one number a row, {rows}, not {offsets.size}")
    return offsets


def finite_floats(values: npt.ArrayLike, thing: str, *, ndim: int) -> npt.NDArray[np.float32]:
    """Return an array as float32, checked.

    Raises
    ------
    :exc:`ValueError`
        If it has another number of dimensions, or is not of finite real numbers.
    """
    array = np.asarray(values)
    if array.ndim != ndim:
        wanted = {1: "one-dimensional", 2: "two-dimensional, (N, K)"}[ndim]
        raise ValueError(f"{thing} must be {wanted}, not of shape {array.shape}")
    if array.dtype.kind in "cOSUMm":
        raise ValueError(f"{thing} must be real numbers, not {array.dtype}")
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite and is reported
        floats = array.astype(np.float32, copy=False)
    for start in range(0, len(floats), _ROWS_AT_ONCE):
        finite = np.isfinite(floats[start : start + _ROWS_AT_ONCE])
        if not finite.all():
            position = np.unravel_index(int(np.argmin(finite)), finite.shape)
            first = tuple(int(index) for index in (position[0] + start, *position[1:]))
            kind = "NaN" if np.isnan(floats[first]) else "infinite"
            where = f"[{', '.join(map(str, first))}]"
            raise ValueError(f"{thing} must be finite numbers; the one at {where} is {kind}")
    return floats
