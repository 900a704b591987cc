"""The methods that quantise a few groups by themselves, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from ..formats import (
    AffineFormat,
    BinaryCodingFormat,
    Family,
    FreeFormat,
    NumberFormat,
    ValueFormat,
)
from .absmax import absmax_search
from .alternating import alternating_search
from .greedy import greedy_search
from .groups import GroupSearch
from .kmeans_search import kmeans_search
from .minmax import minmax_search
from .mse import mse_search

__all__ = ["SEARCHES", "GroupMethod", "find_search", "quick_search", "searches_for"]


@dataclass(frozen=True, slots=True)
class GroupMethod:
    """What a method does with a few groups; scales are not split into two levels.

    Parameters
    ----------
    make : callable
        ``make(family)`` returns the search, as :func:`quantize_groups` takes it.
    kind : type of NumberFormat
        Kind of format that every member of the family must be.
    """

    make: Callable[[Family], GroupSearch]
    kind: type[NumberFormat]

    def serves(self, family: Family) -> bool:
        """Whether the method can quantise to a family."""
        return all(isinstance(item, self.kind) for item in family.members)


SEARCHES: dict[str, GroupMethod] = {
    "absmax": GroupMethod(absmax_search, ValueFormat),
    "mse": GroupMethod(mse_search, ValueFormat),
    "minmax": GroupMethod(minmax_search, AffineFormat),
    "kmeans": GroupMethod(kmeans_search, FreeFormat),
    "alternating": GroupMethod(alternating_search, BinaryCodingFormat),
    "greedy": GroupMethod(greedy_search, BinaryCodingFormat),
}

# What other methods start from where a recipe names nothing: the least squared error.
_BEST = ("mse", "alternating")
_QUICK = {"mse": "absmax", "alternating": "greedy"}


def searches_for(family: Family) -> list[str]:
    """List the methods that quantise groups to a family, the best first."""
    found = [name for name, method in SEARCHES.items() if method.serves(family)]
    return sorted(found, key=lambda name: name not in _BEST)


def quick_search(family: Family, name: str) -> GroupSearch:
    """Return a search whose scales are about those of :func:`find_search`, or above, in no time.

    Raises
    ------
    :exc:`ValueError`
        As there.
    """
    chosen = searches_for(family)[0] if name == "auto" else name
    return find_search(family, _QUICK.get(chosen, chosen))


def find_search(family: Family, name: str) -> GroupSearch:
    """Look up the search of a method; "auto" is the best for the family.

    Raises
    ------
    :exc:`ValueError`
        If the method does not serve the family; the sentence lists those that do.
    """
    serving = searches_for(family)
    chosen = serving[0] if name == "auto" and serving else name
    if chosen not in serving:
        raise ValueError(
            f"Option 'base' cannot be {name!r} for format {family.name!r}; methods that find its "
            f"scales: {', '.join(serving)}"
        )
    return SEARCHES[chosen].make(family)
