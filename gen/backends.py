"""Everything that can compute a layer, behind one interface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix, pack
from ..hdl import Error, LutEngine
from ..sim import Emulator, GoldenModel, Sink, Source
from ..sim.amaranth_driver import simulate_streams
from .config import EngineConfig
from .verilog import generate_verilog

__all__ = ["BACKENDS", "Backend", "BackendRun", "EngineError", "Progress", "make_backend"]

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


class VerilatorBackend:
    """The generated Verilog, compiled; the fastest way to run hardware."""

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        self._config = config
        progress("generating Verilog", 0.0)
        self._emulator = Emulator(generate_verilog(config), top=config.name, progress=progress)

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        interface = self._config.interface
        packed = packed or pack(matrix, self._config.parameters.layout)
        run = self._emulator.run(
            interface.activations(x),
            interface.weights(packed),
            expected=len(x) * interface.output_beats(matrix.rows),
            output_bytes=interface.o_bytes,
            w_repeats=len(x),
        )
        return _answer(self._config, run.outputs, run.cycles, run.status, matrix.rows, len(x))


class AmaranthBackend:
    """The components in Amaranth's own simulator: slow, and nothing to install."""

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        self._config = config

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        interface = self._config.interface
        packed = packed or pack(matrix, self._config.parameters.layout)
        engine = LutEngine(parameters=self._config.parameters)
        sink = Sink()
        expected = len(x) * interface.output_beats(matrix.rows)
        weights = _integers(interface.weights(packed))
        seen = simulate_streams(
            engine,
            sources={
                "i_x": Source(_integers(interface.activations(x))),
                "i_w": Source(weights * len(x)),
            },
            sinks={"o": sink},
            expected={"o": expected},
            stop=engine.status.error,
            watch={"status": engine.status},
            max_cycles=100_000 + 400 * (len(weights) * len(x) + expected),
        )
        size = interface.o_bytes
        raw = b"".join(payload.to_bytes(size, "little") for payload in sink.received)
        outputs = np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)
        return _answer(self._config, outputs, seen["cycles"], seen["status"], matrix.rows, len(x))


BACKENDS: dict[str, Callable[[EngineConfig, Progress], Backend]] = {
    "verilator": VerilatorBackend,
    "amaranth": AmaranthBackend,
    "numpy": NumpyBackend,
}


def make_backend(name: str, config: EngineConfig, progress: Progress | None = None) -> Backend:
    """Make a back end by name.

    Raises
    ------
    :exc:`ValueError`
        If there is none of that name.
    :exc:`ToolError`
        If a program that it needs is missing or fails.
    """
    if name not in BACKENDS:
        raise ValueError(f"Unknown back end {name!r}; known back ends: {', '.join(BACKENDS)}")
    return BACKENDS[name](config, progress or (lambda *_: None))


def _integers(beats: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats]


def _answer(
    config: EngineConfig,
    raw: npt.NDArray[np.uint8],
    cycles: int,
    status: int,
    rows: int,
    tokens: int,
) -> BackendRun:
    error = Error(status & 7)
    if error != Error.NONE:
        raise EngineError(f"The engine stopped with error {error.name} after {cycles} cycles")
    expected = tokens * config.interface.output_beats(rows)
    if len(raw) != expected:
        raise EngineError(f"Only {len(raw)} of {expected} output beats came in {cycles} cycles")
    return BackendRun(config.interface.outputs(raw, rows), cycles)
