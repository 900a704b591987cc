"""Scales of eight bits as float32."""

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ..file_error import FileError

__all__ = ["e4m3_scales", "e8m0_scales"]

_E8M0_BIAS = 127
_E8M0_NAN = 255


def e4m3_scales(bits: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.float32]:
    """Return floats of type E4M3 (4 exponent bits, 3 of mantissa, no infinities).

    Raises
    ------
    FileError
        If one is NaN.
    """
    values = bits.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    if np.isnan(values).any():
        raise FileError(f"Tensor {name!r} must be of finite numbers; it has NaN")
    return values


def e8m0_scales(bits: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.float32]:
    """Return ``2**(bits - 127)``.

    Raises
    ------
    FileError
        If one is NaN, 255.
    """
    if (bits == _E8M0_NAN).any():
        raise FileError(f"Tensor {name!r} must be of powers of two; it has NaN, 255")
    return np.ldexp(np.float32(1), bits.astype(np.int32) - _E8M0_BIAS)
