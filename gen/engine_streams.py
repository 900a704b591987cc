"""A layer's tokens as an engine takes them, and its outputs as numbers."""

import numpy as np
import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..hdl import Error
from .backend import BackendRun, EngineError
from .config import EngineConfig

__all__ = ["EngineStreams"]


class EngineStreams:
    """One layer's tokens as an engine's streams, and the way back from its outputs.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    matrix : QuantizedMatrix
        The layer.
    x : array of the activation type, shape (M, K)
        Tokens.
    packed : PackedLayer, optional
        The layer packed for the engine, if at hand.

    Attributes
    ----------
    x, w : uint8 array, shape (beats, bytes)
        Payloads of the two input streams.
    passes : int
        How often the weights pass.
    expected : int
        Output payloads that the engine owes.
    """

    def __init__(
        self,
        config: EngineConfig,
        matrix: QuantizedMatrix,
        x: npt.NDArray,
        packed: PackedLayer | None,
    ) -> None:
        self._interface = config.interface
        self._rows, self._count = matrix.rows, len(x)
        self.x = self._interface.activations(matrix.arrange(x))
        self.w = self._interface.weights(packed or config.parameters.pack(matrix))
        self.passes = self._interface.passes(len(x))
        tokens = self.passes * self._interface.tokens
        self.expected = tokens * self._interface.output_beats(matrix.rows)

    def answer(self, raw: npt.NDArray[np.uint8], cycles: int, status: int) -> BackendRun:
        """Read the outputs back.

        Raises
        ------
        :exc:`EngineError`
            If the engine stopped, or its outputs are not what it owes.
        """
        error = Error(status & 7)
        if error != Error.NONE:
            raise EngineError(f"The engine stopped with error {error.name} after {cycles} cycles")
        if len(raw) != self.expected:
            raise EngineError(
                f"Only {len(raw)} of {self.expected} output beats came in {cycles} cycles"
            )
        try:
            outputs = self._interface.outputs(raw, self._rows)
        except ValueError as problem:
            raise EngineError(str(problem)) from problem
        # What fills the last pass up is of no interest.
        whole = isinstance(outputs, tuple)
        kept = tuple(part[: self._count] for part in (outputs if whole else (outputs,)))
        return BackendRun(kept if whole else kept[0], cycles)
