"""The Hessian of a layer's squared output error, and the factor of its inverse."""

import numpy as np
import numpy.typing as npt

__all__ = ["damped_hessian", "inverse_factor"]

_LEAF = 64  # columns of a triangle that is inverted as a whole


def damped_hessian(inputs: npt.NDArray[np.float32], damping: float) -> npt.NDArray[np.float64]:
    """Return ``X.T @ X / M``, its diagonal raised by a share of its mean, shape (K, K).

    Parameters
    ----------
    inputs : float32 array, shape (M, K)
        Activations of the calibration data; where all are 0, the result is the identity.
    damping : float
        The share.
    """
    x = inputs.astype(np.float64)
    hessian = x.T @ x
    hessian /= len(x)
    mean = float(np.diag(hessian).mean())
    hessian[np.diag_indices_from(hessian)] += damping * mean if mean > 0 else 1.0
    return hessian


def inverse_factor(hessian: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the upper triangular ``U`` with ``U.T @ U`` the inverse of a matrix.

    Turned around in both directions, the matrix is ``L @ L.T``, and ``U`` is the inverse of ``L``,
    turned back: the inverse itself is never formed.

    Parameters
    ----------
    hessian : float64 array, shape (K, K)
        Symmetric, positive definite.

    Raises
    ------
    :exc:`ValueError`
        If it is not positive definite.
    """
    try:
        lower = np.linalg.cholesky(hessian[::-1, ::-1]).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        raise ValueError(
            "The inputs' Hessian is not positive definite; use more calibration tokens or damping"
        ) from None
    return np.ascontiguousarray(_inverse_triangle(lower)[::-1, ::-1], dtype=np.float64)


def _inverse_triangle(lower: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Invert a lower triangular matrix, half by half."""
    size = len(lower)
    if size <= _LEAF:
        return np.tril(np.linalg.inv(lower)).astype(np.float64, copy=False)
    half = size // 2
    first, last = _inverse_triangle(lower[:half, :half]), _inverse_triangle(lower[half:, half:])
    found = np.zeros_like(lower)
    found[:half, :half] = first
    found[half:, half:] = last
    found[half:, :half] = -last @ (lower[half:, :half] @ first)
    return found
