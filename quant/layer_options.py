"""What the groups of a layer can be, and what each of it costs and loses."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..formats import Family, NumberFormat, QuantizedMatrix
from .calibration import LayerCalibration
from .divergence import OutputDivergence
from .float_scaled import FloatScaledMatrix
from .group_searches import GroupMethod
from .groups import search_groups
from .hutchinson import group_traces
from .mix import mix
from .mixture import Mixture
from .sensitivity import group_hessians, output_squares, weighted_squares
from .slim import slim, slim_salience
from .units import spread_over_groups, sum_by_unit

__all__ = ["LayerOptions", "plane_count"]

_WEIGHTS_AT_ONCE = 1 << 18


def plane_count(item: NumberFormat) -> int:
    """Return the cycles that the LUT engine takes for one slice of a format's weights."""
    return len(item.planes)


class LayerOptions:
    """A layer, quantised to every candidate format of a mixture.

    Losses are measured on weights as they would be stored if each row had the largest scale of all
    its candidates: the coarsest second level that any choice can lead to.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
        Finite.
    mixture : Mixture
    calibration : LayerCalibration, optional
        Where the mixture's sensitivity needs it.
    bias : float32 array, shape (N,), optional
        Only moves the point at which divergences are taken.
    cycles : callable
        Cycles of one slice of a format's weights.
    """

    def __init__(
        self,
        weights: npt.NDArray[np.float32],
        mixture: Mixture,
        calibration: LayerCalibration | None = None,
        *,
        bias: npt.NDArray[np.float32] | None = None,
        cycles: Callable[[NumberFormat], int] = plane_count,
    ):
        rows, columns = weights.shape
        self.mixture = mixture
        self.weights = weights
        size = columns if mixture.group_size is None else min(int(mixture.group_size), columns)
        self.group_size = size
        self.shape = rows, -(-columns // size)
        self._calibration = calibration
        self._bias = bias
        self._cycles = cycles
        self.candidates = [
            _search(weights, chosen, method.search, size)
            for chosen, method in zip(mixture.families, mixture.methods, strict=True)
        ]
        peaks = [candidate.row_peaks() for candidate in self.candidates]
        self._peaks: npt.NDArray[np.float32] = np.max(peaks, axis=0)

    def losses(self) -> npt.NDArray[np.float64]:
        """Return the loss of each unit with each candidate, shape (U, F)."""
        measure = self._measure()
        return np.stack([measure(self._errors(item)) for item in self.candidates], axis=1)

    def costs(self) -> npt.NDArray[np.int64]:
        """Return the cost of each unit with each candidate, shape (U, F).

        In bits for budgets of bits and bytes; in cycles times weights for cycles.
        """
        found = []
        lengths = np.full(self.shape[1], self.group_size, dtype=np.int64)
        lengths[-1] = self.weights.shape[1] - (self.shape[1] - 1) * self.group_size
        for candidate in self.candidates:
            per_weight, fixed = zip(*map(self._cost, candidate.members), strict=True)
            ids = candidate.format_ids
            costs = np.array(per_weight, np.int64)[ids] * lengths + np.array(fixed, np.int64)[ids]
            found.append(sum_by_unit(costs, str(self.mixture.unit)))
        return np.stack(found, axis=1)

    def choose_slim(self) -> npt.NDArray[np.int64]:
        """Choose by SliM-LLM's rule; return a candidate for every column of groups, shape (G,).

        A shorter last column of groups keeps the middle width, so that the mean does not move.
        """
        assert self._calibration is not None
        divergence = self._divergence()
        errors = [self._errors(candidate) for candidate in self.candidates]
        salience = slim_salience(self.weights, self._calibration.inputs, self.group_size)
        whole = self.weights.shape[1] // self.group_size

        def mixed(choices: npt.NDArray[np.int64]) -> float:
            tail = np.ones(self.shape[1] - whole, np.int64)
            columns = np.repeat(np.concatenate([choices, tail]), self.group_size)
            chosen = columns[None, : self.weights.shape[1]]
            return divergence.of(np.choose(chosen, errors))

        choices = np.ones(self.shape[1], np.int64)
        choices[:whole] = slim(salience[:whole], mixed)
        return choices

    def quantize(self, choices: npt.NDArray[np.int64]) -> QuantizedMatrix:
        """Return the layer with a candidate for every unit, shape (U,)."""
        spread = spread_over_groups(choices, str(self.mixture.unit), self.shape)
        return mix(self.candidates, spread, self.mixture.scale_width)

    def _cost(self, item: NumberFormat) -> tuple[int, int]:
        """Return what a format costs for each weight and for each group."""
        if self.mixture.quantity == "cycles":
            return self._cycles(item), 0
        if self.mixture.quantity == "bits":
            return item.code_width, 0
        scales = item.scale_count * (self.mixture.scale_width + 1)
        return item.code_width, scales + item.code_width * item.has_zero_point

    def _divergence(self) -> OutputDivergence:
        assert self._calibration is not None
        return OutputDivergence(self.weights, self._calibration.inputs, self._bias)

    def _measure(self) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
        """Return the function that takes errors of all weights to a loss for each unit, (U,)."""
        unit, size, known = str(self.mixture.unit), self.group_size, self._calibration
        factors = None if known is None else known.importance
        if self.mixture.sensitivity == "weight":
            return lambda errors: sum_by_unit(weighted_squares(errors, size, None, factors), unit)
        assert known is not None
        if self.mixture.sensitivity == "activation":
            squares = np.einsum("mk,mk->k", known.inputs, known.inputs, dtype=np.float64)
            squares /= len(known.inputs)
            return lambda errors: sum_by_unit(
                weighted_squares(errors, size, squares, factors), unit
            )
        if self.mixture.sensitivity == "hessian":
            hessians = group_hessians(known.inputs, size)
            return lambda errors: sum_by_unit(output_squares(errors, hessians, factors), unit)
        if self.mixture.sensitivity == "trace":
            lengths = np.diff([*range(0, self.weights.shape[1], size), self.weights.shape[1]])
            curvatures = np.repeat(group_traces(known.inputs, size) / lengths, lengths)
            return lambda errors: sum_by_unit(
                weighted_squares(errors, size, curvatures, factors), unit
            )
        divergence = self._divergence()
        if self.mixture.sensitivity == "kl":
            return lambda errors: divergence.by_unit(errors, unit, size)
        lost = divergence.by_unit(-self.weights, unit, size)
        squares = sum_by_unit(weighted_squares(self.weights, size), unit)
        scale = lost / np.where(squares > 0, squares, 1)
        return lambda errors: sum_by_unit(weighted_squares(errors, size), unit) * scale

    def _errors(self, candidate: FloatScaledMatrix) -> npt.NDArray[np.float32]:
        """Return what quantising adds to the weights, shape (N, K)."""
        errors = np.empty(self.weights.shape, np.float32)
        height = max(1, _WEIGHTS_AT_ONCE // self.weights.shape[1])
        for start in range(0, len(errors), height):
            some = slice(start, start + height)
            stored = candidate.rows(some).split(self.mixture.scale_width, self._peaks[some])
            errors[some] = stored.dequantize() - self.weights[some]
        return errors


def _search(
    weights: npt.NDArray[np.float32],
    chosen: Family,
    search: GroupMethod | None,
    group_size: int,
) -> FloatScaledMatrix:
    assert search is not None  # as the mixture has checked
    return search_groups(
        weights, search.make(chosen), members=chosen.members, group_size=group_size
    )
