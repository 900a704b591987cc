"""Section 1 of the arithmetic contract: activations become integers with one exponent a token."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..formats import FloatType, Numerics
from .dtypes import DTYPES

__all__ = ["AlignedTokens", "Nonfinite", "align"]

Nonfinite = Literal["raise", "nan"]


@dataclass(frozen=True, slots=True, eq=False)
class AlignedTokens:
    """Activations on a grid of one step a token: ``x[m, k]`` becomes ``X[m, k] * 2**exponent[m]``.

    Parameters
    ----------
    X : int64 array, shape (M, K)
        Integers, of at most :attr:`Numerics.peak` in magnitude; 0 for a flagged token.
    exponent : int32 array, shape (M,)
        Binary exponent of one step; 0 for an all-zero token, unless every token has the same.
    nonfinite : bool array, shape (M,)
        Tokens that hold a NaN or an infinity.
    """

    X: npt.NDArray[np.int64]
    exponent: npt.NDArray[np.int32]
    nonfinite: npt.NDArray[np.bool_]


def align(x: npt.NDArray, numerics: Numerics, *, nonfinite: Nonfinite = "raise") -> AlignedTokens:
    """Turn activations into integers, rounding half to even and limiting to the peak.

    Parameters
    ----------
    x : array of the activation type, shape (M, K)
        int8, float16, :class:`ml_dtypes.bfloat16` or float32, as ``numerics`` has it.
    numerics : Numerics
        Activation type and width.
    nonfinite : str
        ``raise`` refuses a token with a NaN or an infinity, as software does; ``nan`` flags it, as
        hardware does.

    Returns
    -------
    AlignedTokens

    Raises
    ------
    :exc:`ValueError`
        If the array is not a matrix of that type, or holds a NaN or an infinity and may not.

    Source
    ------
    docs/arithmetic.md, section 1.
    """
    if nonfinite not in ("raise", "nan"):
        raise ValueError(f"nonfinite must be 'raise' or 'nan', not {nonfinite!r}")
    dtype = DTYPES[numerics.activation]
    if x.ndim != 2 or x.dtype != dtype:
        raise ValueError(
            f"Activations must be a matrix of {dtype.name}, not {x.dtype.name} of shape {x.shape}"
        )
    tokens = x.shape[0]
    if not numerics.is_float:
        return AlignedTokens(
            x.astype(np.int64), np.zeros(tokens, dtype=np.int32), np.zeros(tokens, dtype=np.bool_)
        )

    float_type = numerics.float_type
    # Only integer views from here on: a processor that flushes subnormals cannot change a bit.
    bits = np.ascontiguousarray(x).view(f"u{dtype.itemsize}").astype(np.int64)
    magnitude = bits & ((1 << float_type.width - 1) - 1)
    flagged = np.any(magnitude >= float_type.infinity, axis=1)
    if flagged.any():
        if nonfinite == "raise":
            _refuse(x, magnitude >= float_type.infinity)
        magnitude[flagged] = 0

    significand, power = _decompose(magnitude, float_type)
    if numerics.is_exact:
        exponent = np.full(tokens, numerics.exact_exponent, dtype=np.int32)
        aligned = significand << (power - numerics.exact_exponent)
    else:
        exponent = _shared_exponent(magnitude, float_type, numerics.aligned_width)
        shift = power - exponent[:, None]
        # Two places beyond the significand already give 0, and wider shifts are undefined.
        aligned = _shift_right_half_even(
            significand << np.maximum(shift, 0),
            np.clip(-shift, 0, float_type.fraction_width + 2),
        )
        np.minimum(aligned, numerics.peak, out=aligned)
    negative = bits >> (float_type.width - 1) != 0
    return AlignedTokens(np.where(negative, -aligned, aligned), exponent, flagged)


def _refuse(x: npt.NDArray, is_nonfinite: npt.NDArray[np.bool_]) -> None:
    token, element = (int(index) for index in np.argwhere(is_nonfinite)[0])
    raise ValueError(
        f"Activations must be finite; element {element} of token {token} is {x[token, element]!s}"
    )


def _decompose(
    magnitude: npt.NDArray[np.int64], float_type: FloatType
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split bit patterns without sign so that the value is ``significand * 2**power``."""
    field = magnitude >> float_type.fraction_width
    fraction = magnitude & ((1 << float_type.fraction_width) - 1)
    significand = fraction | np.minimum(field, 1) << float_type.fraction_width
    power = np.maximum(field, 1) - (float_type.bias + float_type.fraction_width)
    return significand, power


def _shared_exponent(
    magnitude: npt.NDArray[np.int64], float_type: FloatType, aligned_width: int
) -> npt.NDArray[np.int32]:
    """Return the exponent of one step, (M,), from the largest magnitude of each token."""
    largest, power = _decompose(magnitude.max(axis=1), float_type)
    # frexp reads the exponent field of the (normal) float64, so this is the position of the top
    # bit: it normalises subnormals.
    top_bit = np.frexp(largest.astype(np.float64))[1] - 1
    exponent = top_bit + power + 2 - aligned_width
    return np.where(largest > 0, exponent, 0).astype(np.int32)


def _shift_right_half_even(
    value: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    floor = value >> places
    rest = value - (floor << places)
    # Above half, or at half with an odd floor: adding the floor's last bit breaks the tie.
    return floor + (2 * rest + (floor & 1) > 1 << places)
