"""Generated Verilog in a second simulator."""

import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..sim import ProtocolError
from ..sim.cocotb_runner import CocotbJob, check_simulator, run_cocotb
from .backend import BackendRun, EngineError, Progress
from .config import EngineConfig
from .engine_streams import EngineStreams
from .verilog import generate_verilog

__all__ = ["IcarusBackend"]


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
        streams = EngineStreams(self._config, matrix, x, packed)
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
