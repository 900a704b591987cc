"""The registry of quantisers: every method that Lutra knows, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from ..formats import (
    AffineFormat,
    BinaryCodingFormat,
    Family,
    NumberFormat,
    QuantizedMatrix,
    ValueFormat,
)
from .absmax import absmax, absmax_search
from .alternating import alternating, alternating_search
from .greedy import greedy, greedy_search
from .groups import GroupSearch
from .minmax import minmax, minmax_search
from .mse import mse, mse_search

__all__ = ["METHODS", "Method", "method_for"]


@dataclass(frozen=True, slots=True)
class Method:
    """A quantiser and the formats that it serves.

    Parameters
    ----------
    name : str
        Name in recipes and on the command line.
    quantizer : callable
        ``quantizer(weights, family, group_size, scale_width)`` returns a
        :class:`QuantizedMatrix`; ``weights`` is finite float32 of shape (N, K), ``group_size`` is
        1 to K.
    search : callable
        ``search(family)`` returns the part of it that quantises a few groups and leaves their
        scales in float32, as :func:`quantize_groups` takes it; None for a method that does not
        work group by group, whose formats cannot be mixed with others in a layer.
    kind : type of NumberFormat
        Kind of format that every member of the family must be.
    summary : str
        One line for people.
    """

    name: str
    quantizer: Callable[..., QuantizedMatrix]
    search: Callable[[Family], GroupSearch] | None
    kind: type[NumberFormat]
    summary: str

    def serves(self, family: Family) -> bool:
        """Whether the method can quantise to a family."""
        return all(isinstance(item, self.kind) for item in family.members)


# The first method that serves a family is its default.
METHODS: dict[str, Method] = {
    entry.name: entry
    for entry in (
        Method(
            "absmax",
            absmax,
            absmax_search,
            ValueFormat,
            "round to nearest; the largest weight fits",
        ),
        Method(
            "mse",
            mse,
            mse_search,
            ValueFormat,
            "round to nearest; clip where that lowers the error",
        ),
        Method(
            "alternating",
            alternating,
            alternating_search,
            BinaryCodingFormat,
            "fit scales and signs in turns",
        ),
        Method(
            "minmax",
            minmax,
            minmax_search,
            AffineFormat,
            "codes spread from the least to the greatest weight",
        ),
        Method("greedy", greedy, greedy_search, BinaryCodingFormat, "one plane after another"),
    )
}


def method_for(family: Family, name: str | None = None) -> Method:
    """Look up a method for a family; without a name, the family's default.

    Raises
    ------
    :exc:`ValueError`
        If there is no such method, or it does not serve the family; the sentence lists those that
        do.
    """
    serving = [method for method in METHODS.values() if method.serves(family)]
    if not serving:
        raise ValueError(f"There is no method that quantises to format {family.name!r}")
    if name is None:
        return serving[0]
    listed = ", ".join(method.name for method in serving)
    if name not in METHODS:
        raise ValueError(f"Unknown method {name!r}; methods for format {family.name!r}: {listed}")
    if METHODS[name] not in serving:
        raise ValueError(
            f"Method {name!r} cannot quantise to format {family.name!r}; methods that can: {listed}"
        )
    return METHODS[name]
