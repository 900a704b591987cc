"""A recipe's choice of format, with the codebook that it may bring along."""

from collections.abc import Sequence

from ..formats import CATALOG, CODEBOOKS, CodebookFormat, Family, family

__all__ = ["FLOAT_FAMILIES", "recipe_family"]


def _any_split(width: int) -> Family:
    members = tuple(
        entry.members[0] for name, entry in CATALOG.items() if name.startswith(f"float{width}_e")
    )
    return Family(f"float{width}", members, f"{width}-bit floats with any split of their bits")


FLOAT_FAMILIES: dict[str, Family] = {f"float{width}": _any_split(width) for width in range(3, 9)}
"""Small floats of one width, for methods that choose among them."""


def recipe_family(name: str, codebook: Sequence[int] | None, *, is_found: bool = False) -> Family:
    """Return the family of the catalogue, or the one whose only format is a recipe's codebook.

    Values are rounded to the nearest entry; an entry of 0 is not asked for.

    Parameters
    ----------
    name : str
        Family of the catalogue, a codebook's slot, or one of :data:`FLOAT_FAMILIES`.
    codebook : sequence of int, optional
        Entries, for a slot and only for one.
    is_found : bool
        Whether the method finds the entries, so that a slot stands for itself.

    Raises
    ------
    :exc:`ValueError`
        If the name is unknown, entries are missing, unasked for, of another number than the slot's
        or all 0, or some are out of range.
    """
    chosen = FLOAT_FAMILIES.get(name) or family(name)
    if name not in CODEBOOKS:
        if codebook is not None:
            raise ValueError(
                f"A codebook goes with the formats {' and '.join(CODEBOOKS)}, not with {name!r}"
            )
        return chosen
    count = 1 << chosen.code_width
    if codebook is None and is_found:
        return chosen
    if codebook is None:
        raise ValueError(
            f"Format {name!r} has no values of its own; a recipe gives them as 'codebook', "
            f"a list of {count} integers"
        )
    item = CodebookFormat.of(codebook)
    if item.name != name:
        raise ValueError(
            f"The codebook of format {name!r} must have {count} entries, not {len(item.values)}"
        )
    if not any(item.values):
        raise ValueError("A codebook to quantise with must have an entry other than 0")
    return Family(name, (item,), f"codebook of {count} entries")
