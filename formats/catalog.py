"""The catalogue: every number format that Lutra knows, by name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches

from .affine_format import AffineFormat
from .block_format import BLOCK_FORMATS
from .codebook import CODEBOOK_CODE_WIDTHS, CodebookSlot
from .free_format import FreeFormat
from .minifloat import MAX_EXPONENT_WIDTH, minifloat
from .number_format import BinaryCodingFormat, NumberFormat, ValueFormat
from .power_codebook import power_values

__all__ = ["ALIASES", "CATALOG", "CODEBOOKS", "NF4_VALUES", "Family", "family", "member"]


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


_LISTED = 8  # names in a sentence

# Grid of E2M1 doubled, and of BitMoD's FP3; the code that would be -0 comes right after these.
_FP4 = (0, 1, 2, 3, 4, 6, 8, 12)
_FP3 = (0, 1, 2, 4)
_FLINT4 = (0, 1, 2, 3, 4, 6, 8, 16)
_BNB_FP4 = (0, 1, 128, 192, 64, 96, 32, 48)  # in the order of its codes
_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
NF4_VALUES = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""NF4 as it is defined, code by code; the catalogue has multiples of 1/127."""

_ANT = "Guo et al., ANT, MICRO 2022, as BitMoD's code lists its values"
_POWER = "Yvinec et al., PowerQuant, ICLR 2023, and NUPES, 2023, with an exponent of 1/2"
_QLORA = "Dettmers et al., QLoRA, NeurIPS 2023, as bitsandbytes lists its values"
_RAZER = "Chen et al., RaZeR, 2025: E2M1 with a special value for -0"


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


def _integer(width: int) -> ValueFormat:
    half = 1 << (width - 1)
    values = (*range(half), *range(-half, 0))
    return ValueFormat(f"int{width}", width, values, source="two's complement", unused=(half,))


def _plain(number_format: NumberFormat, summary: str) -> Family:
    return Family(number_format.name, (number_format,), summary)


def _integers() -> Iterator[Family]:
    for width in range(2, 9):
        yield _plain(_integer(width), f"{width}-bit integer, symmetric")
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


def _binary_codings() -> Iterator[Family]:
    for width in range(1, 5):
        signs = "a sign with its scale" if width == 1 else f"{width} signs, each with its own scale"
        yield _plain(BinaryCodingFormat(f"bcq{width}", width), signs)
        yield _plain(
            BinaryCodingFormat(f"bcq{width}_asym", width, offset=True),
            f"{signs}, and an offset",
        )


def _floats() -> Iterator[Family]:
    for width in range(3, 9):
        for exponent in range(min(width - 1, MAX_EXPONENT_WIDTH), 0, -1):
            mantissa = width - 1 - exponent
            split = _float_bits(exponent, mantissa)
            yield _plain(
                minifloat(exponent, mantissa), f"{width}-bit float, {split}; no infinity, no NaN"
            )
    yield _plain(
        replace(minifloat(4, 3), name="float8_e4m3fn", unused=(0x7F, 0xFF)),
        "8-bit float E4M3 whose codes of NaN are not produced",
    )
    yield _plain(
        replace(
            minifloat(5, 2),
            name="float8_e5m2_ieee",
            unused=(*range(0x7C, 0x80), *range(0xFC, 0x100)),
        ),
        "8-bit float E5M2 whose codes of infinity and NaN are not produced",
    )


def _special_values() -> Iterator[Family]:
    yield _bitmod(3, _FP3, 0, {3: (1, 2, -4, 1), 6: (-4, 2, 4, -1)})
    bitmod4 = _bitmod(4, _FP4, 1, {5: (-1, 2, 4, 9, -17), 8: (-2, 3, -4, -8, 13)})
    yield bitmod4
    razer = [
        ValueFormat(
            f"razer4_{sign}2_5",
            4,
            _sign_magnitude(_FP4, 5 if sign == "p" else -5),
            grid_exponent=-1,
            source=_RAZER,
        )
        for sign in "pm"
    ]
    yield Family(
        "razer4",
        (*razer, *bitmod4.members),
        "FP4 with one special value a group, from +2.5, -2.5, +5, -5, +8, -8",
    )


def _tables() -> Iterator[Family]:
    flint = ValueFormat("flint4", 4, _sign_magnitude(_FLINT4), source=_ANT)
    yield _plain(flint, "4-bit flint: floats at the ends, integers between")
    yield Family(
        "ant4",
        (_integer(4), flint, minifloat(3, 0)),
        "each group an integer, a flint or a power of two",
    )
    for width in (3, 4):
        yield _plain(
            ValueFormat(f"power{width}", width, power_values(width, 0.5), source=_POWER),
            f"squares of {width - 1}-bit numbers with a sign",
        )
    yield _plain(
        ValueFormat(
            "nf4",
            4,
            tuple(round(127 * value) for value in NF4_VALUES),
            source=f"{_QLORA}; steps of 1/127",
        ),
        "4-bit NormalFloat, quantiles of a normal distribution on a grid of 1/127",
    )
    yield _plain(
        ValueFormat(
            "float4_bnb", 4, _sign_magnitude(_BNB_FP4), source="bitsandbytes, FP4; steps of 1/192"
        ),
        "4-bit float of bitsandbytes: 0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1",
    )
    yield _plain(
        ValueFormat("iq4_nl", 4, _IQ4, source="ggml, table of IQ4_NL and IQ4_XS"),
        "4-bit table of ggml's IQ4",
    )


def _several_scales() -> Iterator[Family]:
    for width in range(2, 9):
        yield _plain(
            AffineFormat(f"int{width}_affine", width),
            f"{width}-bit integer with a scale and an additive constant a group",
        )
    for width in (2, 3, 4):
        yield _plain(
            FreeFormat(f"free{width}", width),
            f"codebook of {1 << width} entries that each group brings along",
        )


def _float_bits(exponent: int, mantissa: int) -> str:
    """Say how the bits of a small float are split."""
    parts = (f"{exponent} exponent bit{'s' * (exponent > 1)}",)
    if mantissa:
        parts += (f"{mantissa} mantissa bit{'s' * (mantissa > 1)}",)
    else:
        parts += ("powers of two",)
    return ", ".join(parts)


_KINDS = (_integers, _binary_codings, _floats, _special_values, _tables, _several_scales)

CATALOG: dict[str, Family] = {entry.name: entry for families in _KINDS for entry in families()}
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

ALIASES: dict[str, str] = {
    "pot3": "float3_e2m0",
    "pot4": "float4_e3m0",
    "fp3": "float3_e2m0",
    "fp4": "float4_e2m1",
    "squares3": "power3",
    "squares4": "power4",
}
"""Other names of families; what is written down has the family's own."""

_MEMBERS = {item.name: item for entry in CATALOG.values() for item in entry.members}


def family(name: str) -> Family:
    """Look up what a user named.

    Raises
    ------
    :exc:`ValueError`
        If the catalogue has no such name, or it is a block format's; the sentence says what there
        is instead.
    """
    known = CATALOG | CODEBOOKS
    name = ALIASES.get(name, name)
    if name in BLOCK_FORMATS:
        raise ValueError(
            f"{name!r} is a block format, which only quantisers take; its numbers are those of "
            f"{BLOCK_FORMATS[name].element!r}"
        )
    if name not in known:
        raise ValueError(_unknown(name, known, (*BLOCK_FORMATS, *ALIASES)))
    return known[name]


def member(name: str) -> NumberFormat:
    """Look up one format by its own name, such as ``bitmod4_p5``; codebooks have values beside it.

    Raises
    ------
    :exc:`ValueError`
        If no family has such a member.
    """
    if name not in _MEMBERS:
        raise ValueError(_unknown(name, _MEMBERS))
    return _MEMBERS[name]


def _unknown(name: str, known: Iterable[str], others: Iterable[str] = ()) -> str:
    """Say that there is no such name, and which there are; of others only those close to it."""
    names = list(known)
    close = get_close_matches(str(name), [*names, *others], 3)
    nearest = f"; closest to it: {', '.join(close)}" if close else ""
    return (
        f"Unknown format {name!r}; known formats: {', '.join(names[:_LISTED])}, … of {len(names)}, "
        f"which `lutra formats` lists{nearest}"
    )
