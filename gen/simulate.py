"""Layers through hardware, compared with the golden model."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import CATALOG, PackedLayer, QuantizedMatrix
from ..sim import predict_cycles
from .backend import Backend
from .backend_numpy import NumpyBackend
from .config import EngineConfig
from .differences import count_mismatches

__all__ = ["LayerComparison", "compare_layer", "families", "summarize"]


@dataclass(frozen=True, kw_only=True)
class LayerComparison:
    """One layer's outputs against the golden model's.

    Parameters
    ----------
    layer : str
        Its name.
    format : str
        Families of its groups' formats, with a ``+`` between them.
    rows, columns, tokens : int
        N, K and M.
    outputs, mismatches : int
        Numbers compared, and those of them that differ in any bit.
    cycles : int or None
        Clock cycles of all tokens; None without a clock.
    predicted_cycles : int
        What the cycle model says that they are.
    useful_cycles : float
        Cycles that the same lanes would take for the steps of all real rows, or for reading their
        codes where that takes longer, with nothing beside them and evenly shared out.
    stream_bits : int
        Bits of the weight stream, headers, padding and checksums included.
    seconds : float
        Time of the back end.
    """

    layer: str
    format: str
    rows: int
    columns: int
    tokens: int
    outputs: int
    mismatches: int
    cycles: int | None
    predicted_cycles: int
    useful_cycles: float
    stream_bits: int
    seconds: float

    @property
    def as_predicted(self) -> bool | None:
        """Whether the engine took as many cycles as the cycle model says; None without a clock."""
        return None if self.cycles is None else self.cycles == self.predicted_cycles

    @property
    def utilisation(self) -> float | None:
        """Share of lane cycles that did useful work."""
        return self.useful_cycles / self.cycles if self.cycles else None

    @property
    def bits_per_weight(self) -> float:
        """Bits of the weight stream for each weight."""
        return self.stream_bits / (self.rows * self.columns)


def compare_layer(
    name: str,
    matrix: QuantizedMatrix,
    x: npt.NDArray,
    *,
    config: EngineConfig,
    backend: Backend,
    packed: PackedLayer | None = None,
) -> LayerComparison:
    """Run a layer and compare every output bit with the golden model.

    Parameters
    ----------
    name : str
        The layer's name.
    matrix : QuantizedMatrix
        The layer.
    x : array of the activation type, shape (M, K)
        Tokens.
    config : EngineConfig
        The engine.
    backend : Backend
        What runs it.
    packed : PackedLayer, optional
        The layer packed for the engine, if at hand.

    Raises
    ------
    :exc:`ValueError`
        If the configuration was not made for such a layer.
    :exc:`EngineError`
        If the engine stops or does not answer.
    """
    packed = packed or config.parameters.pack(matrix)
    passes = config.interface.passes(len(x))
    golden = NumpyBackend(config, lambda *_: None).run(matrix, x).outputs
    start = time.perf_counter()
    run = backend.run(matrix, x, packed=packed)
    seconds = time.perf_counter() - start
    return LayerComparison(
        layer=name,
        format=families(matrix),
        rows=matrix.rows,
        columns=matrix.columns,
        tokens=len(x),
        outputs=matrix.rows * len(x),
        mismatches=count_mismatches(run.outputs, golden),
        cycles=run.cycles,
        predicted_cycles=predict_cycles(
            packed, config.parameters.layout, config.timing, passes=passes
        ),
        useful_cycles=packed.useful_cycles * passes,
        stream_bits=packed.bits,
        seconds=seconds,
    )


def families(matrix: QuantizedMatrix) -> str:
    """Return the names that a user knows a layer's formats by, with a ``+`` between them.

    A format of several families goes by the first, unless the layer has just another's formats.
    """
    used = {matrix.members[index] for index in np.unique(matrix.format_ids)}
    for entry in CATALOG.values():
        if entry.members == matrix.members:
            return entry.name
    first = {item: entry.name for entry in reversed(CATALOG.values()) for item in entry.members}
    names = {first[item] for item in used if item in first}
    others = sorted(item.name for item in used if item not in first)
    return "+".join([name for name in CATALOG if name in names] + others)


def summarize(comparisons: Iterable[LayerComparison], *, sim: str) -> dict[str, Any]:
    """Add up comparisons to what ``lutra simulate --json`` prints."""
    layers = list(comparisons)
    weights = sum(item.rows * item.columns for item in layers)
    clocked = all(item.cycles is not None for item in layers)
    cycles = sum(item.cycles or 0 for item in layers) if clocked else None
    useful = sum(item.useful_cycles for item in layers)
    mismatches = sum(item.mismatches for item in layers)
    return {
        "bit_exact": mismatches == 0,
        "mismatches": mismatches,
        "outputs": sum(item.outputs for item in layers),
        "cycles": cycles,
        "predicted_cycles": sum(item.predicted_cycles for item in layers),
        "cycles_as_predicted": all(item.as_predicted for item in layers) if clocked else None,
        "useful_cycles": useful,
        "utilisation": useful / cycles if cycles else None,
        "bits_per_weight": sum(item.stream_bits for item in layers) / weights,
        "seconds": sum(item.seconds for item in layers),
        "sim": sim,
        "format": "+".join(dict.fromkeys(_names(layers))),
        "layers": [
            {
                "layer": item.layer,
                "rows": item.rows,
                "columns": item.columns,
                "tokens": item.tokens,
                "format": item.format,
                "mismatches": item.mismatches,
                "cycles": item.cycles,
                "predicted_cycles": item.predicted_cycles,
                "utilisation": item.utilisation,
                "bits_per_weight": item.bits_per_weight,
            }
            for item in layers
        ],
    }


def _names(layers: list[LayerComparison]) -> Iterator[str]:
    for item in layers:
        yield from item.format.split("+")
