"""Traces of matrices that are only known by their products."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["group_traces", "hutchinson"]

_Floats = npt.NDArray[np.float64]
_PROBES = 32


def hutchinson(
    product: Callable[[_Floats], _Floats], size: int, *, probes: int = _PROBES, seed: int = 0
) -> float:
    """Estimate a trace by Hutchinson's method: the mean of ``v @ A @ v`` over random signs ``v``.

    Parameters
    ----------
    product : callable
        ``product(v)`` returns ``A @ v`` for ``v`` of shape (size, probes).
    size : int
    probes : int
        Vectors of signs; with as many as that, a matrix with a strong diagonal is known to some
        percent.
    seed : int
        Of the signs; equal arguments give equal results.

    Source
    ------
    Hutchinson, A stochastic estimator of the trace of the influence matrix, 1989.
    """
    bits = np.random.default_rng(seed).integers(0, 2, (size, probes))
    signs = (2 * bits - 1).astype(np.float64)
    return float((signs * product(signs)).sum() / probes)


def group_traces(inputs: npt.NDArray[np.float32], group_size: int, **choices: int) -> _Floats:
    """Estimate the trace of ``X.T @ X / M`` of the columns of each group, without that matrix.

    Parameters
    ----------
    inputs : float32 array, shape (M, K)
    group_size : int
        Columns of one group; the last group may be shorter.
    **choices
        ``probes`` and ``seed`` of :func:`hutchinson`.

    Returns
    -------
    float64 array, shape (G,)
    """
    found = []
    for start in range(0, inputs.shape[1], group_size):
        x = inputs[:, start : start + group_size].astype(np.float64)

        def product(v: _Floats, x: _Floats = x) -> _Floats:
            return x.T @ (x @ v) / len(x)

        found.append(hutchinson(product, x.shape[1], **choices))
    return np.array(found)
