"""Everything that can compute a layer, behind one interface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..hdl import Engine, Error
from ..sim import Emulator, GoldenModel, ProtocolError, Sink, Source
from ..sim.amaranth_driver import StreamTimeoutError, simulate_streams
from ..sim.cocotb_runner import CocotbJob, check_simulator, run_cocotb
from ..sim.verilator import compiler, verilator
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
        for find_tool in (verilator, compiler):
            find_tool()  # before anything that takes long
        self._config = config
        progress("generating Verilog", 0.0)
        self._emulator = Emulator(generate_verilog(config), top=config.name, progress=progress)

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        streams = _Streams(self._config, matrix, x, packed)
        run = self._emulator.run(
            streams.x,
            streams.w,
            expected=streams.expected,
            output_bytes=self._config.interface.o_bytes,
            w_repeats=streams.passes,
        )
        if run.broken_handshakes:
            raise EngineError("Stream o broke the rules of its handshake")
        return streams.answer(run.outputs, run.cycles, run.status)


class IcarusBackend:
    """The generated Verilog in Icarus Verilog, under cocotb: a second opinion, and slow."""

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        check_simulator("icarus")
        self._config = config
        self._progress = progress
        progress("generating Verilog", 0.0)
        self._verilog = generate_verilog(config)

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        streams = _Streams(self._config, matrix, x, packed)
        job = CocotbJob(
            x=streams.x, w=streams.w, expected=streams.expected, w_repeats=streams.passes
        )
        try:
            (run,) = run_cocotb(
                self._verilog,
                [job],
                top=self._config.name,
                simulator="icarus",
                progress=self._progress,
            )
        except ProtocolError as error:
            raise EngineError(str(error)) from error
        return streams.answer(run.outputs, run.cycles, run.status)


class AmaranthBackend:
    """The components in Amaranth's own simulator: slow, and nothing to install."""

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        self._config = config

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        streams = _Streams(self._config, matrix, x, packed)
        engine = Engine(parameters=self._config.parameters)
        sink = Sink()
        weights = _integers(streams.w) * streams.passes
        try:
            seen = simulate_streams(
                engine,
                sources={"i_x": Source(_integers(streams.x)), "i_w": Source(weights)},
                sinks={"o": sink},
                expected={"o": streams.expected},
                stop=(engine.status.error != Error.NONE) & ~engine.status.busy,
                watch={"status": engine.status},
                max_cycles=100_000 + 400 * (len(weights) + streams.expected),
            )
        except (ProtocolError, StreamTimeoutError) as error:
            raise EngineError(str(error)) from error
        size = self._config.interface.o_bytes
        raw = b"".join(payload.to_bytes(size, "little") for payload in sink.received)
        outputs = np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)
        return streams.answer(outputs, seen["cycles"], seen["status"])


BACKENDS: dict[str, Callable[[EngineConfig, Progress], Backend]] = {
    "verilator": VerilatorBackend,
    "icarus": IcarusBackend,
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


class _Streams:
    """One layer's tokens as an engine's streams, and the way back from its outputs."""

    def __init__(
        self,
        config: EngineConfig,
        matrix: QuantizedMatrix,
        x: npt.NDArray,
        packed: PackedLayer | None,
    ) -> None:
        self._interface = config.interface
        self._rows, self._count = matrix.rows, len(x)
        self.x = self._interface.activations(x)
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


def _integers(beats: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats]
