"""PyTorch as a back end: the twin of the hardware, on the processor."""

from importlib.util import find_spec
from typing import Any

import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..sim.verilator import ToolError
from .backend import BackendRun, Progress
from .config import EngineConfig

__all__ = ["TorchBackend", "check_packages"]


def check_packages(*names: str) -> None:
    """Refuse to go on without packages of the extra ``gpu``.

    Raises
    ------
    :exc:`ToolError`
        If one is missing; the sentence says how to install it.
    """
    for name in names:
        if find_spec(name) is None:
            raise ToolError(
                f"The package {name} is not installed; install it with pip install 'lutra[gpu]'"
            )


class TorchBackend:
    """The operators of :mod:`lutra.gpu` on the processor. Keeps the layer that it had last."""

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        check_packages("torch")
        self._numerics = config.parameters.numerics
        self._matrix: QuantizedMatrix | None = None
        self._computation: Any = None

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        from ..gpu import Computation  # PyTorch takes seconds to import

        if self._matrix is not matrix:
            self._matrix, self._computation = matrix, Computation(matrix, self._numerics)
        return BackendRun(self._computation.run(x), None)
