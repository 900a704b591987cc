"""How far an error of the weights moves a layer's output, as a Kullback-Leibler divergence."""

import numpy as np
import numpy.typing as npt

from .units import UNITS

__all__ = ["OutputDivergence"]

_Floats = npt.NDArray[np.float64]
_LARGE_SHIFT = 30.0
_VALUES_AT_ONCE = 1 << 20  # outputs that are held as float64 at a time


class OutputDivergence:
    """``KL(softmax(x @ (W + E).T) || softmax(x @ W.T))``, the mean over calibration tokens.

    Parameters
    ----------
    weights : float32 array, shape (N, K)
    inputs : float32 array, shape (M, K)
        Activations of the calibration data.
    bias : float32 array, shape (N,), optional

    Source
    ------
    Huang et al., SliM-LLM, 2405.14917: the objective of its bit allocation. For parts of a layer:
    one part is changed at a time, as the masks of Huang et al., OHQ, 2309.01945.
    """

    def __init__(
        self,
        weights: npt.NDArray[np.float32],
        inputs: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None = None,
    ):
        self._inputs = inputs
        self._weights = weights
        self._bias = 0 if bias is None else bias
        self._tokens_at_once = max(1, _VALUES_AT_ONCE // len(weights))

    def of(self, errors: npt.NDArray[np.float32]) -> float:
        """Return the divergence for an error of the whole matrix, float32 of shape (N, K)."""
        return float(self.by_unit(errors, "layer", errors.shape[1])[0])

    def by_unit(
        self, errors: npt.NDArray[np.float32], unit: str, group_size: int
    ) -> npt.NDArray[np.float64]:
        """Return the divergence for the error of each unit alone.

        Parameters
        ----------
        errors : float32 array, shape (N, K)
        unit : str
            A key of :data:`UNITS`.
        group_size : int
            Columns of one group.

        Returns
        -------
        float64 array, shape (U,)
        """
        rows, columns = errors.shape
        size = columns if 1 in UNITS[unit] else group_size
        cuts = [slice(start, start + size) for start in range(0, columns, size)]
        alone = 0 not in UNITS[unit]
        found = np.zeros((rows if alone else 1, len(cuts)))
        for start in range(0, len(self._inputs), self._tokens_at_once):
            x = self._inputs[start : start + self._tokens_at_once]
            p = _softmax((x @ self._weights.T + self._bias).astype(np.float64))
            for index, cut in enumerate(cuts):
                shift = (x[:, cut] @ errors[:, cut].T).astype(np.float64)
                found[:, index] += _one_output(p, shift) if alone else _all_outputs(p, shift)
        # Rounding can make what is nearly 0 negative.
        return np.maximum(found / len(self._inputs), 0).reshape(-1)


def _softmax(outputs: _Floats) -> _Floats:
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _all_outputs(p: _Floats, shift: _Floats) -> _Floats:
    """Sum the divergences of all tokens, shape (1,), where all outputs are shifted."""
    top = shift.max(axis=1, keepdims=True)
    weighted = p * np.exp(shift - top)
    total = np.maximum(weighted.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    mean_shift = (weighted * shift).sum(axis=1, keepdims=True) / total
    return (mean_shift - top - np.log(total)).sum(axis=0)


def _one_output(p: _Floats, shift: _Floats) -> _Floats:
    """Sum the divergences of all tokens, shape (N,), where one output is shifted."""
    # Powers of shifts beyond that would overflow; they are taken relative to e^top.
    top = np.maximum(shift - _LARGE_SHIFT, 0)
    power = np.exp(shift - top)
    total = np.maximum((1 - p) * np.exp(-top) + p * power, np.finfo(np.float64).tiny)
    # With log1p and expm1, also the least of probabilities keep their relative accuracy.
    moved = p * np.expm1(np.minimum(shift, _LARGE_SHIFT))
    small = (top == 0) & (moved > -0.5)
    log_total = np.where(small, np.log1p(np.maximum(moved, -0.5)), np.log(total) + top)
    return (p * power / total * shift - log_total).sum(axis=0)
