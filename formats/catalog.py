"""The catalogue: every number format that Lutra knows, by name."""

from dataclasses import dataclass

from .codebook import CODEBOOK_CODE_WIDTHS, CodebookSlot
from .number_format import BinaryCodingFormat, NumberFormat, ValueFormat

__all__ = ["CATALOG", "CODEBOOKS", "Family", "family", "member"]


@dataclass(frozen=True)
class Family:
    """A name that users choose, and the formats that its groups choose from.

    Parameters
    ----------
    name : str
        Name in recipes, configurations and on the command line.
    members : tuple of NumberFormat
        Formats of equal code width; one for a plain format. Their order settles ties.
    summary : str
        One line for people.
    """

    name: str
    members: tuple[NumberFormat, ...]
    summary: str

    @property
    def code_width(self) -> int:
        """Bits of one stored code."""
        return self.members[0].code_width


# Grid of E2M1 doubled, and of BitMoD's FP3; the code that would be -0 comes right after these.
_FP4 = (0, 1, 2, 3, 4, 6, 8, 12)
_FP3 = (0, 1, 2, 4)


def _sign_magnitude(magnitudes: tuple[int, ...], special: int = 0) -> tuple[int, ...]:
    """Sign in the top bit; the code of -0 is free for one special value."""
    return (*magnitudes, special, *(-value for value in magnitudes[1:]))


def _bitmod(
    code_width: int,
    magnitudes: tuple[int, ...],
    half_steps: int,
    coefficients: dict[int, tuple[int, ...]],
) -> Family:
    """Build a family whose groups choose the value of the -0 code.

    ``coefficients`` has those of the planes for each positive special value. A negative one makes
    the values of all codes but their signs the same, and so has the opposite of them.
    """
    specials = [special for size in coefficients for special in (size, -size)]
    name = f"bitmod{code_width}"
    members = tuple(
        ValueFormat(
            name=f"{name}_{'m' if special < 0 else 'p'}{abs(special)}",
            code_width=code_width,
            values=_sign_magnitude(magnitudes, special << half_steps),
            grid_exponent=-half_steps,
            source="Chen et al., BitMoD, HPCA 2025, table IV",
            coefficients=tuple(
                factor if special > 0 else -factor for factor in coefficients[abs(special)]
            ),
        )
        for special in specials
    )
    listed = ", ".join(f"{special:+d}" for special in specials)
    return Family(name, members, f"FP{code_width} with one special value a group, from {listed}")


def _plain(number_format: NumberFormat, summary: str) -> Family:
    return Family(number_format.name, (number_format,), summary)


def _families():
    for width in range(2, 9):
        half = 1 << (width - 1)
        values = (*range(half), *range(-half, 0))
        yield _plain(
            ValueFormat(f"int{width}", width, values, source="two's complement", unused=(half,)),
            f"{width}-bit integer, symmetric",
        )
        yield _plain(
            ValueFormat(
                f"int{width}_asym",
                width,
                tuple(range(1 << width)),
                zero_point=True,
                source="unsigned code less an unsigned zero-point",
            ),
            f"{width}-bit integer with a zero-point a group",
        )
    yield _plain(
        ValueFormat("ternary", 2, (0, 1, -2, -1), source="two's complement", unused=(2,)),
        "-1, 0, +1",
    )
    for width in range(1, 5):
        signs = "a sign with its scale" if width == 1 else f"{width} signs, each with its own scale"
        yield _plain(BinaryCodingFormat(f"bcq{width}", width), signs)
        yield _plain(
            BinaryCodingFormat(f"bcq{width}_asym", width, offset=True),
            f"{signs}, and an offset",
        )
    yield _plain(
        ValueFormat(
            "float4_e2m1",
            4,
            _sign_magnitude(_FP4),
            grid_exponent=-1,
            source="OCP Microscaling Formats 1.0, section 5.3.3",
        ),
        "4-bit float, 2 exponent bits, 1 mantissa bit; no infinity, no NaN",
    )
    yield _bitmod(3, _FP3, 0, {3: (1, 2, -4, 1), 6: (-4, 2, 4, -1)})
    yield _bitmod(4, _FP4, 1, {5: (-1, 2, 4, 9, -17), 8: (-2, 3, -4, -8, 13)})


CATALOG: dict[str, Family] = {entry.name: entry for entry in _families()}
"""Families whose formats have values of their own."""

CODEBOOKS: dict[str, Family] = {
    entry.name: entry
    for entry in (
        _plain(
            CodebookSlot(f"codebook{width}", width),
            f"codebook of {1 << width} entries that each layer brings along",
        )
        for width in CODEBOOK_CODE_WIDTHS
    )
}
"""Families whose formats are slots: their values are known layer by layer."""

_MEMBERS = {item.name: item for entry in CATALOG.values() for item in entry.members}


def family(name: str) -> Family:
    """Look up what a user named.

    Raises
    ------
    :exc:`ValueError`
        If the catalogue has no such name; the sentence lists the names it has.
    """
    known = CATALOG | CODEBOOKS
    if name not in known:
        raise ValueError(f"Unknown format {name!r}; known formats: {', '.join(known)}")
    return known[name]


def member(name: str) -> NumberFormat:
    """Look up one format by its own name, such as ``bitmod4_p5``; codebooks have values beside it.

    Raises
    ------
    :exc:`ValueError`
        If no family has such a member.
    """
    if name not in _MEMBERS:
        raise ValueError(f"Unknown format {name!r}; known formats: {', '.join(_MEMBERS)}")
    return _MEMBERS[name]
