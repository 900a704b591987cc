"""Components simulated as they are written."""

import numpy as np
import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..hdl import Engine, Error
from ..sim import ProtocolError, Sink, Source
from ..sim.amaranth_driver import StreamTimeoutError, simulate_streams
from .backend import BackendRun, EngineError, Progress
from .config import EngineConfig
from .engine_streams import EngineStreams

__all__ = ["AmaranthBackend"]


class AmaranthBackend:
    """The components in Amaranth's own simulator: slow, and nothing to install."""

    def __init__(self, config: EngineConfig, progress: Progress) -> None:
        self._config = config

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        streams = EngineStreams(self._config, matrix, x, packed)
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


def _integers(beats: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats]
