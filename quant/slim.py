"""SliM-LLM's rule: as many groups below a width as above it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["slim", "slim_salience"]

_DAMPING = 0.01


def slim(
    salience: npt.ArrayLike, divergence: Callable[[npt.NDArray[np.int64]], float]
) -> npt.NDArray[np.int64]:
    """Choose the width of every column group of a layer.

    For ``i`` from 0 to half of the groups, the ``i`` least salient groups get candidate 0, the
    ``i`` most salient ones candidate 2, and all others candidate 1; the ``i`` with the least
    divergence is taken, the first of equals. With widths of N - 1, N and N + 1 bits and groups of
    equal size, the mean is N bits exactly. ``i = 0``, which the paper leaves out, makes sure that
    the result is not worse than a uniform width.

    Parameters
    ----------
    salience : float array, shape (G,)
        Of each column group; of equal ones the earlier counts as less salient.
    divergence : callable
        ``divergence(choices)`` of a candidate for every group, int64 of shape (G,).

    Returns
    -------
    int64 array, shape (G,)
        0, 1 or 2 for every group.

    Source
    ------
    Huang et al., SliM-LLM, 2405.14917, salience-determined bit allocation.
    """
    order = np.argsort(np.asarray(salience, dtype=np.float64), kind="stable")
    best, least = np.ones(len(order), dtype=np.int64), np.inf
    for count in range(len(order) // 2 + 1):
        choices = np.ones(len(order), dtype=np.int64)
        choices[order[:count]] = 0
        choices[order[len(order) - count :]] = 2
        value = divergence(choices)
        if value < least:
            best, least = choices, value
    return best


def slim_salience(
    weights: npt.NDArray[np.float32], inputs: npt.NDArray[np.float32], group_size: int
) -> npt.NDArray[np.float64]:
    """Return the salience of every column group.

    That of a weight is ``w_ij**2 / U_jj**2``, with ``U`` the upper Cholesky factor of the inverse
    of ``H = 2 / M * X.T @ X``, whose diagonal is raised by a hundredth of its mean; that of a group
    is the sum over its columns and all rows.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
    inputs : float32 array, shape (M, K)
        Activations of the calibration data.
    group_size : int

    Returns
    -------
    float64 array, shape (G,)
    """
    x = inputs.astype(np.float64)
    hessian = x.T @ x * (2 / len(x))
    damping = _DAMPING * float(np.diag(hessian).mean())
    hessian[np.diag_indices_from(hessian)] += damping or 1.0
    factor = np.linalg.cholesky(np.linalg.inv(hessian))  # its transpose has the same diagonal
    squares = np.einsum("nk,nk->k", weights, weights, dtype=np.float64)
    starts = np.arange(0, weights.shape[1], group_size)
    return np.add.reduceat(squares / np.diag(factor) ** 2, starts)
