"""Generated Verilog as a compiled program."""

import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..sim import Emulator
from ..sim.verilator import compiler, verilator
from .backend import BackendRun, EngineError, Progress
from .config import EngineConfig
from .engine_streams import EngineStreams
from .verilog import generate_verilog

__all__ = ["VerilatorBackend"]


class VerilatorBackend:
    """The generated Verilog, compiled; the fastest way to run hardware.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    progress : callable
        Told in a few words what is being done, and how much of it from 0 to 1.
    verilog : str, optional
        What to compile in its place, with the same top and ports.
    """

    def __init__(
        self, config: EngineConfig, progress: Progress, *, verilog: str | None = None
    ) -> None:
        for find_tool in (verilator, compiler):
            find_tool()  # before anything that takes long
        self._config = config
        if verilog is None:
            progress("generating Verilog", 0.0)
            verilog = generate_verilog(config)
        self._emulator = Emulator(verilog, top=config.name, progress=progress)

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        streams = EngineStreams(self._config, matrix, x, packed)
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
