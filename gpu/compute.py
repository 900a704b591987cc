"""One product of arrays, as other back ends have it."""

from typing import Any

import numpy.typing as npt
import torch

from ..formats import Numerics, QuantizedMatrix
from .arrays import from_numpy, to_numpy
from .op import check_sum_width, matmul, sums
from .packed import PackedWeights
from .paths import why_not_fast

__all__ = ["Computation", "kernel_device"]


def kernel_device() -> str:
    """Return where kernels can run: ``cuda``, or ``cpu`` for Triton's interpreter."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class Computation:
    """A layer on a device, from arrays to arrays: what compares back ends takes.

    Parameters
    ----------
    matrix : QuantizedMatrix
        The layer. Its bias is not applied.
    numerics : Numerics
        Activation type and width, and output type.
    device : device
        ``cpu``, or a GPU such as ``cuda``.

    Attributes
    ----------
    fallback_reason : str
        Why exact float64 products are used instead of kernels; empty if they are not.

    Raises
    ------
    :exc:`ValueError`
        If the exact sum could need more than 63 bits.
    """

    def __init__(
        self, matrix: QuantizedMatrix, numerics: Numerics, device: torch.device | str = "cpu"
    ):
        device = torch.device(device)
        self._matrix = matrix
        self.numerics = numerics
        self.fallback_reason = why_not_fast(matrix, device)
        derive = PackedWeights.dense if self.fallback_reason else PackedWeights.words
        weights = derive(matrix)
        check_sum_width(weights.spec.row_sum, numerics)
        self._weights = weights.to(device)
        self._device = device

    def run(self, x: npt.NDArray) -> Any:
        """Compute; a NaN or an infinity gives the quiet NaN, as hardware does.

        Parameters
        ----------
        x : array of the activation type, shape (M, K)

        Returns
        -------
        array of the output type, shape (M, N)
            For ``int`` output a pair: the sums, int64 of shape (M, N), and the exponents, int32 of
            shape (M,).

        Raises
        ------
        :exc:`ValueError`
            If the activations are not of that type and shape, or not finite with ``int`` output.
        """
        tokens = from_numpy(self._matrix.arrange(x)).to(self._device)
        if self.numerics.output == "int":
            total, exponent, _ = sums(tokens, self._weights, self.numerics)
            return to_numpy(total), to_numpy(exponent)
        return to_numpy(matmul(tokens, self._weights, self.numerics))
