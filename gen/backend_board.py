"""A board behind a serial port."""

import numpy as np
import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..fpga import Board, BoardMemory, Link
from ..fpga.protocol import Memory
from .backend import BackendRun
from .board_verilog import board_config, identity_of
from .config import EngineConfig
from .engine_streams import EngineStreams

__all__ = ["BoardBackend", "BoardError", "check_room"]

_MOST_PASSES = (1 << 8) - 1  # that a RUN can ask for


class BoardError(ValueError):
    """A board has another bitstream, or no room for what it is asked to run."""


def check_room(board: Board, packed: PackedLayer) -> None:
    """Refuse a layer that a board's memories do not hold.

    Raises
    ------
    :exc:`BoardError`
        If it does not fit; the sentence says by how much.
    """
    config = board_config(board)
    interface, memory, need = config.interface, board.memory, _need(config, packed)
    for what, words, word_bytes, needed in (
        ("weights", memory.weights, interface.beat_width // 8, need.weights),
        ("activations", memory.activations, interface.x_width // 8, need.activations),
        ("outputs", memory.outputs, interface.o_bytes, need.outputs),
    ):
        if needed > words:
            raise BoardError(
                f"The layer's {what} take {needed * word_bytes:,} bytes, "
                f"{(needed - words) * word_bytes:,} more than the {words * word_bytes:,} of "
                f"{board.name!r}; run a smaller layer"
            )


def _need(config: EngineConfig, packed: PackedLayer) -> BoardMemory:
    """Return the words that a layer and the vectors of one pass take."""
    interface = config.interface
    return BoardMemory(
        weights=len(packed.beats),
        activations=interface.tokens * -(-packed.columns // interface.act_lanes),
        outputs=interface.tokens * interface.output_beats(packed.rows),
    )


class BoardBackend:
    """Layers through a board: the same streams as in simulation, over its link.

    Parameters
    ----------
    board : Board
        Which one it is.
    link : Link
        The way to it.

    Attributes
    ----------
    board, link
        As given.
    sent, received : int
        Bytes of weights and activations that went there, of outputs that came back.

    Raises
    ------
    :exc:`LinkError`
        If no board answers.
    :exc:`BoardError`
        If its bitstream was built from another configuration.
    """

    def __init__(self, board: Board, link: Link) -> None:
        self.board, self.link = board, link
        self._config = board_config(board)
        self.sent = self.received = 0
        found, wanted = link.hello(), identity_of(board)
        if found != wanted:
            raise BoardError(
                f"The bitstream on the board has hash {found.hex()}, and the configuration of "
                f"{board.name!r} has {wanted.hex()}; build and load it again: "
                f"make fpga BOARD={board.name}"
            )
        link.clear()

    def passes(self, packed: PackedLayer, tokens: int) -> list[int]:
        """Return the passes of each run for ``tokens`` vectors: as many as the memories hold."""
        memory, need = self.board.memory, _need(self._config, packed)
        most = min(memory.activations // need.activations, memory.outputs // need.outputs)
        left, runs = self._config.interface.passes(tokens), []
        while left:
            runs.append(min(left, most, _MOST_PASSES))
            left -= runs[-1]
        return runs

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`. Cycles are those of all runs together."""
        packed = packed or self._config.parameters.pack(matrix)
        check_room(self.board, packed)
        weights = packed.beats.tobytes()
        self.link.write(Memory.WEIGHTS, weights, self._config.interface.beat_width // 8)
        self.sent += len(weights)
        outputs, cycles, first = [], 0, 0
        for passes in self.passes(packed, len(x)):
            count = passes * self._config.interface.tokens
            part = self._run(matrix, x[first : first + count], packed)
            first += count
            outputs.append(part.outputs)
            cycles += part.cycles or 0
        if isinstance(outputs[0], tuple):
            return BackendRun(tuple(map(np.concatenate, zip(*outputs, strict=True))), cycles)
        return BackendRun(np.concatenate(outputs), cycles)

    def _run(self, matrix: QuantizedMatrix, x: npt.NDArray, packed: PackedLayer) -> BackendRun:
        """Compute as many tokens as the memories hold; the weights are there."""
        interface = self._config.interface
        streams = EngineStreams(self._config, matrix, x, packed)
        word_bytes = interface.x_width // 8
        activations = streams.x[:, :word_bytes].tobytes()  # the board makes `last` itself
        self.link.write(Memory.ACTIVATIONS, activations, word_bytes)
        status = self.link.run(
            words=len(packed.beats),
            passes=streams.passes,
            beats=len(streams.x) // (streams.passes * interface.tokens),
            expected=streams.expected,
        )
        raw = np.zeros((0, interface.o_bytes), dtype=np.uint8)
        if status.outputs == streams.expected:
            words = self.link.read(streams.expected, interface.o_bytes)
            raw = np.frombuffer(words, dtype=np.uint8).reshape(-1, interface.o_bytes)
        self.sent += len(activations)
        self.received += raw.size
        return streams.answer(raw, status.cycles, status.word)
