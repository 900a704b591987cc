"""The golden model: what every back end must return, bit for bit."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import Numerics, QuantizedMatrix
from .activations import Nonfinite, align
from .outputs import convert_output
from .product import ExactProduct

__all__ = ["GoldenModel"]


class GoldenModel:
    """One layer under one choice of numerics: the whole arithmetic contract.

    Between the conversion of the activations and the conversion of the output everything is an
    exact integer, so the result does not depend on any order of summation. The integer weights are
    kept as float64, eight bytes a weight.

    Parameters
    ----------
    matrix : QuantizedMatrix
        The layer. Its bias is not applied; see :func:`add_bias`.
    numerics : Numerics
        Activation type and width, and output type.

    Raises
    ------
    :exc:`ValueError`
        If the largest activation times the largest sum of magnitudes of a row of integer weights
        needs more than 63 bits, sign included.

    Source
    ------
    docs/arithmetic.md.
    """

    def __init__(self, matrix: QuantizedMatrix, numerics: Numerics):
        self.matrix = matrix
        self.numerics = numerics
        self._product = ExactProduct(matrix.integer_weights())
        self._product.check(numerics.peak)

    def sums(
        self, x: npt.NDArray, *, nonfinite: Nonfinite = "raise"
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return the exact sums, before any scale.

        Parameters
        ----------
        x : array of the activation type, shape (M, K)
        nonfinite : str
            ``raise`` or ``nan``; see :func:`align`.

        Returns
        -------
        sums : int64 array, shape (M, N)
            ``Y``, in steps of ``row_scales[n] * 2**exponent[m]``; 0 for a flagged token.
        exponent : int32 array, shape (M,)
        nonfinite : bool array, shape (M,)

        Raises
        ------
        :exc:`ValueError`
            If the activations are not of that type and shape, or not finite and may not be so.
        """
        if x.ndim == 2 and x.shape[1] != self.matrix.columns:
            raise ValueError(
                f"Activations must have {self.matrix.columns} elements a token, not {x.shape[1]}"
            )
        tokens = align(self.matrix.arrange(x), self.numerics, nonfinite=nonfinite)
        return self._product(tokens.X), tokens.exponent, tokens.nonfinite

    def run(self, x: npt.NDArray, *, nonfinite: Nonfinite = "raise") -> Any:
        """Return what an engine returns.

        Parameters
        ----------
        x : array of the activation type, shape (M, K)
        nonfinite : str
            ``raise`` refuses a NaN or an infinity, as software does; ``nan`` makes every output of
            its token the quiet NaN, as hardware does.

        Returns
        -------
        array of the output type, shape (M, N)
            For ``int`` output a pair: the sums, int64 of shape (M, N), and the exponents, int32 of
            shape (M,).

        Raises
        ------
        :exc:`ValueError`
            As :meth:`sums`; and with ``int`` output for any NaN or infinity, because an integer
            cannot say so and hardware stops with an error.
        """
        if self.numerics.output == "int":
            sums, exponent, _ = self.sums(x)
            return sums, exponent
        sums, exponent, flagged = self.sums(x, nonfinite=nonfinite)
        return convert_output(sums, exponent, self.matrix.row_scales, self.numerics.output, flagged)
