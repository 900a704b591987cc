"""Activations that try an engine hardest: the adversarial set of the arithmetic contract."""

import numpy as np
import numpy.typing as npt

from ..formats import FloatType, Numerics
from .dtypes import DTYPES

__all__ = ["adversarial_tokens", "nonfinite_tokens"]

# Powers of two between the largest and the smallest element of the token with a wide spread.
_SPREAD = 30
# Exponent of the element that sets the step of the token of ties: float16's largest, so that half
# a step of 24-bit activations is a normal number there too.
_HALF_STEPS_TOP = 15


def adversarial_tokens(
    numerics: Numerics, columns: int, *, seed: int = 0
) -> dict[str, npt.NDArray]:
    """Return finite tokens that reach the corners of the arithmetic, by name.

    ``numpy.stack(list(tokens.values()))`` makes a batch of them.

    Parameters
    ----------
    numerics : Numerics
        Activation type and width.
    columns : int
        Elements of a token, K, at least 1.
    seed : int
        Of the random tokens.

    Returns
    -------
    dict of str to array of the activation type, shape (K,)
    """
    rng = np.random.default_rng(seed)
    return (
        _float_tokens(numerics, columns, rng) if numerics.is_float else _int8_tokens(columns, rng)
    )


def nonfinite_tokens(numerics: Numerics, columns: int, *, seed: int = 0) -> dict[str, npt.NDArray]:
    """Return tokens that hold a NaN or an infinity, by name; none for int8.

    Parameters
    ----------
    numerics : Numerics
        Activation type.
    columns : int
        Elements of a token, K, at least 1.
    seed : int
        Of the random elements beside the one that is not finite.

    Returns
    -------
    dict of str to array of the activation type, shape (K,)
    """
    if not numerics.is_float:
        return {}
    float_type = numerics.float_type
    rng = np.random.default_rng(seed)
    sign = 1 << (float_type.width - 1)
    patterns = {
        "quiet_nan": (float_type.quiet_nan, 0),
        "negative_nan_last": (sign | float_type.quiet_nan, -1),
        "signalling_nan": (float_type.infinity | 1, columns // 2),
        "infinity": (float_type.infinity, 0),
        "negative_infinity_last": (sign | float_type.infinity, -1),
    }
    tokens = {}
    for name, (pattern, position) in patterns.items():
        bits = _random_finite(float_type, columns, rng)
        bits[position] = pattern
        tokens[name] = _as_floats(bits, float_type)
    tokens["all_nan"] = _as_floats(np.full(columns, float_type.quiet_nan), float_type)
    infinities = _alternate(float_type.infinity, sign | float_type.infinity, columns)
    tokens["opposite_infinities"] = _as_floats(infinities, float_type)
    return tokens


def _int8_tokens(columns: int, rng: np.random.Generator) -> dict[str, npt.NDArray]:
    tokens = {
        "all_zero": np.zeros(columns),
        "all_largest": np.full(columns, 127),
        "all_lowest": np.full(columns, -128),
        "alternating": _alternate(127, -128, columns),
        "cancelling": _alternate(127, -127, columns),
        "first_only": _one_non_zero(-128, 0, columns),
        "last_only": _one_non_zero(127, -1, columns),
        "random": rng.integers(-128, 128, columns),
        "random_small": rng.integers(-2, 3, columns),
    }
    return {name: token.astype(np.int8) for name, token in tokens.items()}


def _float_tokens(
    numerics: Numerics, columns: int, rng: np.random.Generator
) -> dict[str, npt.NDArray]:
    float_type = numerics.float_type
    width = float_type.fraction_width
    sign = 1 << (float_type.width - 1)
    one = float_type.bias << width
    largest = float_type.infinity - 1
    all_ones = one | (1 << width) - 1  # just below 2: rounds up to the limit of narrow widths
    smallest_normal = 1 << width
    subnormals = rng.integers(1, smallest_normal, columns)
    mixed = rng.integers(0, 3 * smallest_normal, columns)
    signs = sign * rng.integers(0, 2, columns)
    patterns = {
        "all_zero": np.zeros(columns, dtype=np.int64),
        "all_negative_zero": np.full(columns, sign),
        "signed_zeros_and_one": _with_first(_alternate(sign, 0, columns), one),
        "all_largest": np.full(columns, largest),
        "all_lowest": np.full(columns, sign | largest),
        "all_just_below_two": np.full(columns, all_ones),
        "cancelling": _alternate(largest, sign | largest, columns),
        "cancelling_ones": _alternate(one, sign | one, columns),
        "first_only": _one_non_zero(sign | all_ones, 0, columns),
        "last_only": _one_non_zero(one, -1, columns),
        "smallest_subnormal_only": _one_non_zero(1, -1, columns),
        "subnormals": subnormals | signs,
        "mixed_subnormals": mixed | signs,
        "largest_with_subnormals": _with_first(subnormals | signs, largest),
        "exponent_spread": _exponent_spread(float_type, columns, rng),
        "random": one + rng.integers(-3 << width, 3 << width, columns) | signs,
        "random_bits": _random_finite(float_type, columns, rng),
    }
    if not numerics.is_exact:
        patterns["half_steps"] = _half_steps(float_type, numerics.aligned_width, columns)
    return {name: _as_floats(bits, float_type) for name, bits in patterns.items()}


def _exponent_spread(
    float_type: FloatType, columns: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return elements of 2**15 down to 2**-15, which is subnormal in float16.

    The largest comes first and the smallest last, so that two columns have the whole spread.
    """
    exponents = rng.integers(-_SPREAD // 2, _SPREAD // 2, columns, endpoint=True)
    exponents[-1] = -_SPREAD // 2
    exponents[0] = _SPREAD // 2
    field = exponents + float_type.bias
    fraction = rng.integers(0, 1 << float_type.fraction_width, columns)
    normal = (np.maximum(field, 1) << float_type.fraction_width) | fraction
    subnormal = (1 << float_type.fraction_width | fraction) >> np.maximum(1 - field, 0)
    signs = rng.integers(0, 2, columns) << (float_type.width - 1)
    return np.where(field > 0, normal, subnormal) | signs


def _half_steps(float_type: FloatType, aligned_width: int, columns: int) -> npt.NDArray[np.int64]:
    """Return ties of the rounding, +-1/2, +-3/2, ... of a step, after an element that sets it."""
    element = np.arange(columns)
    odd = 1 + 2 * (element // 2 % 8)
    log2 = np.frexp(odd.astype(np.float64))[1] - 1
    field = _HALF_STEPS_TOP + 1 - aligned_width + log2 + float_type.bias
    fraction = (odd << float_type.fraction_width - log2) & ((1 << float_type.fraction_width) - 1)
    signs = (element & 1) << (float_type.width - 1)
    bits = field << float_type.fraction_width | fraction | signs
    return _with_first(bits, (_HALF_STEPS_TOP + float_type.bias) << float_type.fraction_width)


def _random_finite(
    float_type: FloatType, columns: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return bit patterns, all finite ones alike."""
    signs = rng.integers(0, 2, columns) << (float_type.width - 1)
    return rng.integers(0, float_type.infinity, columns) | signs


def _alternate(even: int, odd: int, columns: int) -> npt.NDArray[np.int64]:
    return np.where(np.arange(columns) % 2, odd, even)


def _one_non_zero(value: int, position: int, columns: int) -> npt.NDArray[np.int64]:
    token = np.zeros(columns, dtype=np.int64)
    token[position] = value
    return token


def _with_first(token: npt.NDArray[np.int64], value: int) -> npt.NDArray[np.int64]:
    token[0] = value
    return token


def _as_floats(bits: npt.NDArray[np.int64], float_type: FloatType) -> npt.NDArray:
    return bits.astype(f"u{float_type.width // 8}").view(DTYPES[float_type.name])
