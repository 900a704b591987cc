"""A recipe's choice of format, with the codebook that it may bring along."""

from collections.abc import Sequence

from ..formats import CODEBOOKS, CodebookFormat, Family, family

__all__ = ["recipe_family"]


def recipe_family(name: str, codebook: Sequence[int] | None) -> Family:
    """Return the family of the catalogue, or the one whose only format is a recipe's codebook.

    Values are rounded to the nearest entry; an entry of 0 is not asked for.

    Parameters
    ----------
    name : str
        Family of the catalogue, or a codebook's slot.
    codebook : sequence of int, optional
        Entries, for a slot and only for one.

    Raises
    ------
    :exc:`ValueError`
        If the name is unknown, entries are missing, unasked for, of another number than the slot's
        or all 0, or some are out of range.
    """
    chosen = family(name)
    if name not in CODEBOOKS:
        if codebook is not None:
            raise ValueError(
                f"A codebook goes with the formats {' and '.join(CODEBOOKS)}, not with {name!r}"
            )
        return chosen
    count = 1 << chosen.code_width
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
