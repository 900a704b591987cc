"""Weighted k-means of numbers, many sets at once."""

import numpy as np
import numpy.typing as npt

__all__ = ["weighted_kmeans"]

_Floats = npt.NDArray[np.float64]


def weighted_kmeans(values: _Floats, factors: _Floats, count: int, rounds: int) -> _Floats:
    """Return the centres of the clusters of each column, ascending.

    Lloyd's iteration from two starts: centres that share the factors evenly, and centres spread
    evenly from the least to the greatest value; of the two, the one that ends with less weighted
    squared error is taken. Columns with no more different values than clusters have these as
    centres. Values midway belong to the lower centre, and a cluster that loses all
    its values keeps its centre.

    Parameters
    ----------
    values : float64 array, shape (length, columns)
    factors : float64 array, shape (length, columns)
        Not negative. Columns without any are treated as if all were 1.
    count : int
        Clusters.
    rounds : int
        Most rounds; it ends when no value changes its cluster.

    Returns
    -------
    float64 array, shape (count, columns)

    Source
    ------
    Lloyd, Least squares quantization in PCM, 1982; weighted as Kim et al., SqueezeLLM, ICML 2024,
    section 4.1.
    """
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.ascontiguousarray(np.take_along_axis(values, order, axis=0).T)
    weights = np.ascontiguousarray(np.take_along_axis(factors, order, axis=0).T)
    weights[~weights.any(axis=1)] = 1
    masses = _running_sums(weights)
    moments = _running_sums(weights * ordered)
    shares = (np.arange(count) + 0.5) / count
    even = np.stack([
        row[np.searchsorted(mass[1:], shares * mass[-1]).clip(0, len(row) - 1)]
        for row, mass in zip(ordered, masses, strict=True)
    ])
    low, high = ordered[:, :1], ordered[:, -1:]
    best, most = even, np.full(len(ordered), -np.inf)
    for start in (even, low + (high - low) * shares):
        centres, explained = _iterate(ordered, masses, moments, start, rounds)
        better = explained > most
        best = np.where(better[:, None], centres, best)
        most = np.maximum(explained, most)
    _keep_few(ordered, best)
    return np.sort(best, axis=1).T


def _keep_few(ordered: _Floats, centres: _Floats) -> None:
    """Take the values themselves as centres where there are no more of them than clusters."""
    count = centres.shape[1]
    numbers = 1 + (ordered[:, 1:] > ordered[:, :-1]).sum(axis=1)
    for row in np.flatnonzero(numbers <= count):
        values = np.unique(ordered[row])
        centres[row] = np.pad(values, (0, count - len(values)), mode="edge")


def _iterate(ordered, masses, moments, centres, rounds: int) -> tuple[_Floats, _Floats]:
    """Return centres after the rounds, and how much they take off the weighted squares."""
    rows, length = ordered.shape
    ends = np.full((rows, 1), length)
    cuts = None
    explained = np.zeros(rows)
    for _ in range(rounds):
        middles = (centres[:, :-1] + centres[:, 1:]) / 2
        inner = np.stack([
            np.searchsorted(row, middle, side="right")
            for row, middle in zip(ordered, middles, strict=True)
        ])
        now = np.concatenate([np.zeros_like(ends), inner, ends], axis=1)
        if cuts is not None and np.array_equal(cuts, now):
            break
        cuts = now
        mass, moment = (
            sums[:, 1:] - sums[:, :-1]
            for sums in (np.take_along_axis(item, cuts, axis=1) for item in (masses, moments))
        )
        filled = mass > 0
        centres = np.where(filled, moment / np.where(filled, mass, 1), centres)
        # Rounding of sums must not put centres out of order.
        centres = np.maximum.accumulate(centres, axis=1)
        explained = (np.where(filled, moment * centres, 0)).sum(axis=1)
    return centres, explained


def _running_sums(values: _Floats) -> _Floats:
    return np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
