"""The search for each group's own codebook."""

import numpy as np
import numpy.typing as npt

from ..formats import Family
from .groups import GroupSearch, QuantizedGroups
from .weighted_kmeans import weighted_kmeans

__all__ = ["ROUNDS", "kmeans_search"]

ROUNDS = 50  # as SqueezeLLM's authors have it


def kmeans_search(family: Family, rounds: int = ROUNDS) -> GroupSearch:
    """Return what :func:`kmeans` does with a few groups; centres are not split yet."""
    count = 1 << family.code_width

    def search(
        weights: npt.NDArray[np.float32], factors: npt.NDArray[np.float64] | None = None, /
    ) -> QuantizedGroups:
        values = weights.astype(np.float64)
        given = np.ones_like(values) if factors is None else factors
        centres = weighted_kmeans(values, given, count, rounds).astype(np.float32)
        middles = (centres[:-1].astype(np.float64) + centres[1:]) / 2
        codes = np.zeros(weights.shape, np.uint8)
        for middle in middles:
            codes += values > middle
        columns = weights.shape[1]
        return QuantizedGroups(
            codes=codes,
            format_ids=np.zeros(columns, np.uint8),
            scales=centres,
            zeros=np.zeros(columns, np.uint8),
        )

    return search
