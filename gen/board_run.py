"""Layers through a board, compared with the golden model."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy.typing as npt

from ..formats import QuantizedMatrix
from ..sim import predict_cycles
from .backend_board import BoardBackend, check_room
from .backend_numpy import NumpyBackend
from .board_verilog import board_config
from .differences import count_mismatches

__all__ = ["BoardRun", "run_layer", "summarize_runs"]


@dataclass(frozen=True, kw_only=True)
class BoardRun:
    """One layer's outputs from a board against the golden model's.

    Parameters
    ----------
    layer : str
        Its name.
    rows, columns, tokens : int
        N, K and M.
    outputs, mismatches : int
        Numbers compared, and those of them that differ in any bit.
    cycles, predicted_cycles : int
        Clock cycles of the engine, and what the cycle model says that they are.
    sent, received : int
        Bytes of weights and activations, and of outputs, repeats and frames not counted.
    repeats : int
        Requests that were sent again.
    seconds : float
        From the first byte sent to the last one received.
    """

    layer: str
    rows: int
    columns: int
    tokens: int
    outputs: int
    mismatches: int
    cycles: int
    predicted_cycles: int
    sent: int
    received: int
    repeats: int
    seconds: float


def run_layer(
    name: str, matrix: QuantizedMatrix, x: npt.NDArray, backend: BoardBackend
) -> BoardRun:
    """Run a layer and compare every output bit with the golden model.

    Parameters
    ----------
    name : str
        The layer's name.
    matrix : QuantizedMatrix
        The layer.
    x : array of the activation type, shape (M, K)
        Tokens.
    backend : BoardBackend
        The board.

    Raises
    ------
    :exc:`BoardError`
        If the board has no room for the layer.
    :exc:`EngineError`
        If the engine stops or does not answer.
    :exc:`LinkError`
        If the board does not answer.
    """
    config = board_config(backend.board)
    packed = config.parameters.pack(matrix)
    check_room(backend.board, packed)
    golden = NumpyBackend(config, lambda *_: None).run(matrix, x).outputs
    before = backend.sent, backend.received, backend.link.repeats
    start = time.perf_counter()
    run = backend.run(matrix, x, packed=packed)
    seconds = time.perf_counter() - start
    predicted = sum(
        predict_cycles(packed, config.parameters.layout, config.timing, passes=passes)
        for passes in backend.passes(packed, len(x))
    )
    return BoardRun(
        layer=name,
        rows=matrix.rows,
        columns=matrix.columns,
        tokens=len(x),
        outputs=matrix.rows * len(x),
        mismatches=count_mismatches(run.outputs, golden),
        cycles=run.cycles or 0,
        predicted_cycles=predicted,
        sent=backend.sent - before[0],
        received=backend.received - before[1],
        repeats=backend.link.repeats - before[2],
        seconds=seconds,
    )


def summarize_runs(runs: Sequence[BoardRun], *, board: str) -> dict[str, Any]:
    """Add up runs to what ``lutra board run --json`` prints."""
    counts = ("mismatches", "outputs", "cycles", "predicted_cycles", "sent", "received", "repeats")
    totals = {name: sum(getattr(run, name) for run in runs) for name in counts}
    return {
        "board": board,
        "bit_exact": totals["mismatches"] == 0,
        **totals,
        "cycles_as_predicted": all(run.cycles == run.predicted_cycles for run in runs),
        "seconds": sum(run.seconds for run in runs),
        "layers": [asdict(run) for run in runs],
    }
