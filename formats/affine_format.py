"""Codes with a scale and an offset of their own a group."""

from dataclasses import dataclass
from functools import cached_property

from .number_format import NumberFormat, Plane
from .planes import bit_truth

__all__ = ["AffineFormat"]


@dataclass(frozen=True)
class AffineFormat(NumberFormat):
    """Uniform codes whose zero need not be a code: a weight is ``scales[0] * code + scales[1]``.

    What checkpoints keep as a minimum, or as a fractional zero-point, is the second scale.

    Parameters
    ----------
    source : str
        Where the format is defined.
    """

    source: str = "unsigned code with a scale and an additive constant"

    @cached_property
    def planes(self) -> tuple[Plane, ...]:  # type: ignore[override]
        """Bits of the code, which share a scale; the offset is a plane whose digit is always 1."""
        bits = (Plane(bit_truth(bit, self.code_width), 1 << bit) for bit in range(self.code_width))
        always = (1 << (1 << self.code_width)) - 1
        return *bits, Plane(always, 1, scale_index=1)
