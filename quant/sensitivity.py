"""How much the output suffers from an error of the weights, group by group."""

import numpy as np
import numpy.typing as npt

__all__ = ["group_hessians", "output_squares", "weighted_squares"]


def weighted_squares(
    errors: npt.NDArray[np.float32],
    group_size: int,
    column_factors: npt.NDArray[np.float64] | None = None,
    row_factors: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the weighted squared error of each group.

    ``row_factors[n] * sum_k column_factors[k] * errors[n, k]**2``. With the mean squares of the
    inputs as factors of the columns, this is the mean squared error of an output if inputs were
    not correlated; they are half of the diagonal of the Hessian of the squared error.

    Parameters
    ----------
    errors : float32 array, shape (N, K)
    group_size : int
        Columns of one group; the last group may be shorter.
    column_factors : float64 array, shape (K,), optional
    row_factors : float64 array, shape (N,) or (1,), optional

    Returns
    -------
    float64 array, shape (N, G)
    """
    starts = np.arange(0, errors.shape[1], group_size)
    squares = np.square(errors, dtype=np.float64)
    if column_factors is not None:
        squares *= column_factors
    found = np.add.reduceat(squares, starts, axis=1)
    return found if row_factors is None else found * row_factors[:, None]


def group_hessians(
    inputs: npt.NDArray[np.float32], group_size: int
) -> list[npt.NDArray[np.float64]]:
    """Return ``X.T @ X / M`` of the columns of each group, shape (length, length) each.

    Parameters
    ----------
    inputs : float32 array, shape (M, K)
    group_size : int
        Columns of one group; the last group may be shorter.
    """
    found = []
    for start in range(0, inputs.shape[1], group_size):
        x = inputs[:, start : start + group_size].astype(np.float64)
        found.append(x.T @ x / len(x))
    return found


def output_squares(
    errors: npt.NDArray[np.float32],
    hessians: list[npt.NDArray[np.float64]],
    row_factors: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the mean squared error of an output that the error of each group alone makes.

    ``row_factors[n] * e @ H_g @ e.T`` for the errors ``e`` of a group: like
    :func:`weighted_squares`, with the correlations of the inputs within a group.

    Parameters
    ----------
    errors : float32 array, shape (N, K)
    hessians : list of float64 arrays
        Of :func:`group_hessians`.
    row_factors : float64 array, shape (N,) or (1,), optional

    Returns
    -------
    float64 array, shape (N, G)
    """
    found, start = np.empty((len(errors), len(hessians))), 0
    for group, hessian in enumerate(hessians):
        some = errors[:, start : start + len(hessian)].astype(np.float64)
        found[:, group] = np.einsum("nk,nk->n", some @ hessian, some)
        start += len(hessian)
    # Rounding can make what is nearly 0 negative.
    np.maximum(found, 0, out=found)
    return found if row_factors is None else found * row_factors[:, None]
