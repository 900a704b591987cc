"""A mixture on its way through the layers that share it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import NumberFormat, QuantizedMatrix
from .allocate import allocate, spent
from .allocation import Allocation
from .calibration import Calibration
from .checkpoint import Checkpoint
from .file_error import FileError
from .finite import finite_bias, finite_weights
from .float_layer import FloatLayer
from .layer_options import LayerOptions
from .mixture import Mixture

__all__ = ["MixtureRun"]


class MixtureRun:
    """Measures, decides and quantises, layer by layer.

    Where the budget is shared by the model, call :meth:`measure` for every tensor of
    :attr:`to_measure` first, then :meth:`decide`, then :meth:`quantize` for every tensor.

    Parameters
    ----------
    mixture : Mixture
    checkpoint : Checkpoint
    calibration : Calibration, optional
    tensors : sequence of str
        Those that the mixture is for.
    cycles : callable
        Cycles of one slice of a format's weights.

    Attributes
    ----------
    to_measure : tuple of str
        Tensors to read before anything can be decided; none where every layer has its own budget.
    records : list of dict
        What was decided, as the model file holds it.
    """

    def __init__(
        self,
        mixture: Mixture,
        checkpoint: Checkpoint,
        calibration: Calibration | None,
        tensors: Sequence[str],
        cycles: Callable[[NumberFormat], int],
    ):
        self._mixture = mixture
        self._checkpoint = checkpoint
        self._calibration = calibration
        self._cycles = cycles
        self._losses: list[npt.NDArray[np.float64]] = []
        self._costs: list[npt.NDArray[np.int64]] = []
        self._choices: dict[str, npt.NDArray[np.int64]] = {}
        self.to_measure = tuple(tensors) if mixture.scope == "model" else ()
        self.records: list[dict[str, Any]] = []

    def measure(self, tensor: str) -> None:
        """Keep the losses and costs of a layer."""
        _, options = self._options(tensor)
        self._losses.append(options.losses())
        self._costs.append(options.costs())

    def decide(self) -> None:
        """Share the budget among the layers that were measured."""
        if not self.to_measure:
            return
        count = sum(math.prod(self._checkpoint.shape(tensor)) for tensor in self.to_measure)
        found = allocate(
            np.concatenate(self._losses), np.concatenate(self._costs), self._mixture, count
        )
        ends = np.cumsum([len(losses) for losses in self._losses])[:-1]
        parts = np.split(found.choices, ends)
        self._choices = dict(zip(self.to_measure, parts, strict=True))
        self._record(self.to_measure, found.cost, count, found)
        self._losses, self._costs = [], []

    def quantize(self, tensor: str) -> QuantizedMatrix:
        """Return a layer in its mixture of formats."""
        choices = self._choices.get(tensor)
        layer, options = self._options(tensor, measured=choices is not None)
        if choices is None:
            choices = self._decide_alone(tensor, layer, options)
        made = options.quantize(choices)
        return made if layer.bias is None else replace(made, bias=layer.bias)

    def _decide_alone(
        self, tensor: str, layer: FloatLayer, options: LayerOptions
    ) -> npt.NDArray[np.int64]:
        costs, count = options.costs(), layer.weights.size
        if self._mixture.allocator == "slim":
            choices = options.choose_slim()
            cost = int(np.take_along_axis(costs, choices[:, None], axis=1).sum())
            self._record([tensor], cost, count, None)
            return choices
        try:
            found = allocate(options.losses(), costs, self._mixture, count)
        except ValueError as error:
            raise ValueError(f"Layer {layer.name!r}: {error}") from error
        self._record([tensor], found.cost, count, found)
        return found.choices

    def _options(self, tensor: str, *, measured: bool = False) -> tuple[FloatLayer, LayerOptions]:
        """Read a layer and quantise it to all candidates."""
        layer = self._checkpoint.read(tensor)
        try:
            weights = finite_weights(layer.weights)
            bias = None if layer.bias is None else finite_bias(layer.bias, len(weights))
            calibration = None
            if self._calibration is not None and not measured:
                calibration = self._calibration.layer(layer.name, *weights.shape)
            options = LayerOptions(
                weights, self._mixture, calibration, bias=bias, cycles=self._cycles
            )
        except FileError:
            raise
        except ValueError as error:
            raise ValueError(f"Layer {layer.name!r}: {error}") from error
        return FloatLayer(layer.name, weights, bias), options

    def _record(
        self, tensors: Sequence[str], cost: int, count: int, found: Allocation | None
    ) -> None:
        record: dict[str, Any] = {
            "layers": [tensor.removesuffix(".weight") for tensor in tensors],
            "budget": self._mixture.budget,
            "spent": spent(cost, self._mixture, count),
        }
        if found is not None:
            record |= {"loss": found.loss, "bound": found.bound, "exact": found.exact}
        self.records.append(record)
