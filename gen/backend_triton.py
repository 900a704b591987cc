"""Triton's kernels as a back end: on the GPU, or interpreted where there is none."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy.typing as npt

from ..formats import Numerics, PackedLayer, QuantizedMatrix
from .backend import BackendRun, EngineError, Progress
from .backend_torch import check_packages
from .config import EngineConfig

__all__ = ["TritonBackend"]


class TritonBackend:
    """The kernels of :mod:`lutra.gpu`.

    Triton's interpreter has to be asked for before Triton is imported, and then it is there for the
    whole process: so it gets one of its own.
    """

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        check_packages("torch", "triton")
        from ..gpu import kernel_device  # PyTorch takes seconds to import

        self._numerics = config.parameters.numerics
        self._device = kernel_device()
        self._interpreter: ProcessPoolExecutor | None = None
        if self._device == "cpu":
            progress("starting Triton's interpreter", 0.0)
            self._interpreter = _interpreter()

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`.

        Raises
        ------
        :exc:`EngineError`
            If the kernels do not take the layer, or the interpreter's process ends, as it does
            where memory does not suffice; the next run starts another.
        """
        if self._interpreter is None:
            outputs = _compute(matrix, self._numerics, x, self._device)
        else:
            try:
                job = self._interpreter.submit(_compute, matrix, self._numerics, x, self._device)
                outputs = job.result()
            except BrokenProcessPool as error:
                self._interpreter.shutdown()
                self._interpreter = _interpreter()
                raise EngineError(
                    "Triton's interpreter ended before it was done; perhaps there was too little "
                    "memory for the layer"
                ) from error
        return BackendRun(outputs, None)


def _interpreter() -> ProcessPoolExecutor:
    """Return a pool that starts its process when it is first given something to do."""
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_interpreting,
    )


def _begin_interpreting() -> None:
    os.environ["TRITON_INTERPRET"] = "1"


def _compute(matrix: QuantizedMatrix, numerics: Numerics, x: npt.NDArray, device: str) -> Any:
    from ..gpu import PackedWeights, from_numpy, to_numpy
    from ..gpu.launch import launch_matmul, launch_sums
    from ..gpu.packing import why_not_packed

    reason = why_not_packed(matrix)
    if reason:
        raise EngineError(f"The kernels do not take the layer: {reason}")
    weights = PackedWeights.words(matrix).to(device)
    tokens = from_numpy(x).to(device)
    if numerics.output == "int":
        total, exponent, _ = launch_sums(tokens, weights, numerics)
        return to_numpy(total), to_numpy(exponent)
    return to_numpy(launch_matmul(tokens, weights, numerics))
