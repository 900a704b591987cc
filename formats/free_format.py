"""Codebooks of a group's own."""

from dataclasses import dataclass
from functools import cached_property

from .number_format import NumberFormat, Plane

__all__ = ["FreeFormat"]


@dataclass(frozen=True)
class FreeFormat(NumberFormat):
    """Every group brings its own codebook: a weight is ``scales[code]``.

    The entries are the group's scales, so that groups should be long; whole rows, for codebooks of
    rows. An engine sums the activations of each entry and multiplies the sums, one entry a cycle.

    Parameters
    ----------
    source : str
        Where the format is defined.
    """

    source: str = "Kim et al., SqueezeLLM, ICML 2024, section 4.1"

    @cached_property
    def planes(self) -> tuple[Plane, ...]:  # type: ignore[override]
        """One plane an entry: which codes name it."""
        return tuple(Plane(1 << code, 1, scale_index=code) for code in range(1 << self.code_width))
