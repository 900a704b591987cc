"""Bit fields of the IEEE-like floating-point types that cross Lutra's boundary."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FLOATS", "FloatType", "round_to_bfloat16", "widen_bfloat16"]


@dataclass(frozen=True, slots=True)
class FloatType:
    """Sign, exponent and fraction of a binary floating-point type, in that order from the top.

    Parameters
    ----------
    name : str
        NumPy or ml_dtypes name.
    exponent_width, fraction_width : int
        Bits of the two fields.
    """

    name: str
    exponent_width: int
    fraction_width: int

    @property
    def width(self) -> int:
        """Bits of one number."""
        return 1 + self.exponent_width + self.fraction_width

    @property
    def bias(self) -> int:
        """What is subtracted from the exponent field."""
        return (1 << (self.exponent_width - 1)) - 1

    @property
    def exponent_mask(self) -> int:
        """All ones: the exponent field of infinities and NaNs."""
        return (1 << self.exponent_width) - 1

    @property
    def infinity(self) -> int:
        """Bit pattern of +infinity."""
        return self.exponent_mask << self.fraction_width

    @property
    def quiet_nan(self) -> int:
        """Bit pattern of the one NaN that Lutra returns: sign 0, only the top fraction bit set."""
        return self.infinity | 1 << (self.fraction_width - 1)


FLOATS = {
    item.name: item
    for item in (
        FloatType("float16", 5, 10),
        FloatType("bfloat16", 8, 7),
        FloatType("float32", 8, 23),
    )
}


def widen_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the float32 values of bfloat16 bit patterns, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def round_to_bfloat16(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return bfloat16 bit patterns, rounded half to even.

    Parameters
    ----------
    x : float32 array, any shape
        Finite numbers, infinities, or the quiet NaN of :class:`FloatType`.

    Returns
    -------
    uint16 array, same shape
    """
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
