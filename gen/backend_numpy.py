"""The golden model as a back end."""

import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..sim import GoldenModel
from .backend import BackendRun, Progress
from .config import EngineConfig

__all__ = ["NumpyBackend"]


class NumpyBackend:
    """The golden model. Keeps the model of the layer that it was asked for last."""

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        self._numerics = config.parameters.numerics
        self._last: GoldenModel | None = None

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        if self._last is None or self._last.matrix is not matrix:
            self._last = GoldenModel(matrix, self._numerics)
        return BackendRun(self._last.run(x, nonfinite="nan"), None)
