"""The interface of everything that can compute a layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix

__all__ = ["Backend", "BackendRun", "EngineError", "Progress"]

Progress = Callable[[str, float], None]


class EngineError(RuntimeError):
    """An engine stopped with an error, or did not answer."""


@dataclass(frozen=True, eq=False)
class BackendRun:
    """Outputs of one layer and what they took.

    Parameters
    ----------
    outputs : array, shape (M, N)
        Of the output type; a pair of sums and exponents for ``int``.
    cycles : int or None
        Clock cycles from the first beat offered to the last output taken; None where there is no
        clock.
    """

    outputs: Any
    cycles: int | None


class Backend(Protocol):
    """Something that computes layers."""

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens, one after the other.

        Parameters
        ----------
        matrix : QuantizedMatrix
            The layer.
        x : array of the activation type, shape (M, K)
            Tokens.
        packed : PackedLayer, optional
            The layer as :func:`pack` gives it, if it is at hand already.

        Raises
        ------
        :exc:`EngineError`
            If the engine stops or does not answer.
        """
        ...
