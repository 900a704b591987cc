"""Write ``docs/formats.md`` from the catalogue: ``.venv/bin/python docs/formats.py``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lutra.formats import (
    ALIASES,
    BLOCK_FORMATS,
    CATALOG,
    CODEBOOKS,
    Family,
    NumberFormat,
    Plane,
    ValueFormat,
)
from lutra.formats.catalog import NF4_VALUES

PAGE = Path(__file__).with_suffix(".md")

_HEADING = """\
# Number formats

<!-- Made by docs/formats.py from formats/catalog.py. Edit those, not this. -->

Every number format that Lutra knows. A **family** is what recipes, configurations and the command
line name; each group of weights has one of its **formats**. What a code, a scale and a zero-point
mean for a weight is in [arithmetic.md](arithmetic.md), section 2. `lutra formats NAME` shows one
family on the terminal.

Values are integers: multiples of the format's step, which only says how they relate to the format's
definition. Quantisers choose scales for the integers.
"""

_FAMILIES = """\
## Families

- *planes*: digit planes of a format, each a cycle of the LUT engine for one slice
- *terms*: signed powers of two that make up a value, each a cycle of the term engine for one part
  of a slice; beside a zero-point, of a value less a constant that cancels
- *scales*: integers that scale one group
"""

_VALUES = """\
## Value formats

Values of codes 0, 1, 2, and so on. Quantisers do not produce the codes in the column *unused*, so
that the range stays symmetric; they decode like all others.
"""

_STREAM_CODES = """\
## Codes in the weight stream

Engines have little to do for a plane whose digit is a bit of the code. So the
[weight stream](weight-stream.md#codes) numbers the codes of some formats anew, such that the first
planes, as many as a code has bits, are bits of the new numbers (`formats/stream_codes.py`). These
are the numbers of codes 0, 1, 2, and so on. The codes of all other formats keep their numbers.

Nothing else knows of these numbers: model files, recipes, the golden model and GPUs have the codes
of the table above.
"""

_PLANES = """\
## Planes of value formats

A value is the sum of the coefficients whose digit is 1. For number `c` of the weight stream the
digit is bit `c` of the truth table, given in hexadecimal; `bit 0` stands for the table that has bit
0 of every number, and so on. Formats whose codes are numbered anew have coefficients of their own,
chosen for that; planes of the others are found by a search for the shortest exact list
(`formats/planes.py`). The order is the engine's, and that of the [weight stream's
fingerprint](weight-stream.md#fingerprint).
"""

_SIGNS = """\
## Formats with several scales

In binary-coding formats every bit of a code is a sign, +1 for 1 and -1 for 0, with a scale of its
own. In affine ones the bits of a code share a scale, and what is added to all weights of the group
is another. Free ones are codebooks of a group: each code has a scale, which is its entry, and a
plane that tells where it stands. An offset is a plane whose truth table is all ones. Digits are -1
and +1 for binary codings, 0 and 1 for the others.
"""


_CODEBOOKS = """\
## Codebooks

The values of a codebook are not in the catalogue: each layer brings its own, and they are loaded
into registers of the engine before its weights. An engine with such a format has a slot for one
codebook of that code width a time; other layers may have other values.

Entries are integers in -128..127. A configuration may keep fewer bits of an entry,
`stream.codebook_width`, which is also the number of planes. A term engine takes
`stream.codebook_terms` signed powers of two of every entry, each a step; a layer whose entries need
more of either is refused by the packer. Other engines may set `stream.codebook_terms` to 0, which
is the default.

In a recipe, which `lutra quantize --recipe` takes, the entries stand beside the format, and every
weight gets the nearest one:

```toml
format = "codebook4"
codebook = [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127]
```

BitMoD with other special values than the catalogue's is a codebook: the values of `bitmod4_p5` with
its 10 (5 in steps of 1/2) replaced by another integer. That is one special value for a layer, where
the catalogue's families have four to choose from for every group; both may stand in one layer, so
that some groups take the codebook.
"""


_BLOCKS = """\
## Block formats

Names for `lutra quantize` and recipes that say the size of groups and the kind of their scales,
too. What a model file keeps is the element, and the scales as integers: powers of two as far as the
scale width goes, E4M3 numbers as multiples of 2^-9. Engines need the element's family.
"""

_ALIASES = """\
Other names: {}.
"""


_NOT_HERE = """\
## What is not here, and why

- **OliVe's outlier-victim pairs** (Guo et al., ISCA 2023): a reserved code says that the weight
  beside it is an outlier in another format, so that what a code means depends on its neighbour.
  Here a weight is a function of its own code and its group's header, which is what lets rows be
  read at any column and planes be taken one by one. Outliers are sparse integers beside the codes
  instead (`outliers` of a model file), or groups with a wider format.
- **Floats with 6 or 7 exponent bits**: as integers they span 2^62 steps and more, and no exact sum
  of such weights has 63 bits.
- **Infinities and NaN**: a weight is a number. `float8_e4m3fn` and `float8_e5m2_ieee` have the
  codes, which quantisers do not produce; they decode as the finite numbers of their bits.
- **Grids of NF4 and of bitsandbytes' FP4**: NF4's 16 numbers are rounded to multiples of 1/127, by
  {nf4:.4f} at most; more bits of them would be more planes, a cycle each. FP4's are multiples of
  1/192 and need no rounding.
"""


def page() -> str:
    """Return the page's text."""
    members = list(dict.fromkeys(item for family in CATALOG.values() for item in family.members))
    values = [item for item in members if isinstance(item, ValueFormat)]
    signs = [item for item in members if item not in values]
    parts = [
        _HEADING,
        _FAMILIES,
        _table(
            ("family", "code bits", "formats", "planes", "terms", "scales", "zero-point", "is"),
            map(_family_row, CATALOG.values()),
        ),
        _ALIASES.format(", ".join(f"`{new}` is `{old}`" for new, old in ALIASES.items())),
        _BLOCKS,
        _table(
            ("name", "element", "group size", "method", "source"),
            (
                (f"`{b.name}`", f"`{b.element}`", str(b.group_size), f"`{b.method}`", b.source)
                for b in BLOCK_FORMATS.values()
            ),
        ),
        _VALUES,
        _table(("format", "values", "step", "unused", "source"), map(_value_row, values)),
        _STREAM_CODES,
        _table(("format", "numbers"), filter(None, map(_stream_row, values))),
        _PLANES,
        _table(("format", "planes"), ((f"`{item.name}`", _planes(item)) for item in values)),
        _SIGNS,
        _table(("format", "planes", "source"), map(_sign_row, signs)),
        _CODEBOOKS,
        _table(("format", "code bits", "is"), map(_codebook_row, CODEBOOKS.values())),
        _NOT_HERE.format(nf4=max(abs(v - round(127 * v) / 127) for v in NF4_VALUES)),
    ]
    return "\n".join(parts)


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _family_row(family: Family) -> Sequence[str]:
    members = family.members
    return (
        f"`{family.name}`",
        str(family.code_width),
        str(len(members)),
        _range([len(item.planes) for item in members]),
        _range([item.step_count for item in members]),
        _range([item.scale_count for item in members]),
        "yes" if any(item.has_zero_point for item in members) else "",
        family.summary,
    )


def _value_row(item: ValueFormat) -> Sequence[str]:
    step = f"2^{item.grid_exponent}" if item.grid_exponent else "1"
    unused = ", ".join(map(str, item.unused))
    return f"`{item.name}`", _listed(item.values), step, unused, item.source


def _stream_row(item: ValueFormat) -> Sequence[str] | None:
    """Return the numbers of a format's codes, if they are others than the codes."""
    numbers = item.stream_codes
    if list(numbers) == sorted(numbers):
        return None
    return f"`{item.name}`", ", ".join(map(str, numbers))


def _sign_row(item: NumberFormat) -> Sequence[str]:
    planes = (
        f"scale {p.scale_index} · {f'{p.coefficient} · ' * (p.coefficient > 1)}{_digit(p, item)}"
        for p in item.planes
    )
    return f"`{item.name}`", ", ".join(planes), getattr(item, "source", "")


def _codebook_row(family: Family) -> Sequence[str]:
    return f"`{family.name}`", str(family.code_width), family.summary


def _range(numbers: list[int]) -> str:
    low, high = min(numbers, default=0), max(numbers, default=0)
    return f"{low} to {high}" if low < high else str(high) if numbers else ""


def _listed(values: Sequence[int]) -> str:
    """List values; runs of more than six that count up by one are shortened."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = (f"{r[0]} … {r[-1]}" if len(r) > 6 else ", ".join(map(str, r)) for r in runs)
    return ", ".join(texts)


def _planes(item: NumberFormat) -> str:
    if len(item.planes) > 5 and item.code_width > 3 and _are_value_bits(item):
        top = item.planes[-1].coefficient
        if any(p.coefficient != 1 << i for i, p in enumerate(item.planes[:-1])):
            raise ValueError(f"{item.name} leaves out bits of its values")
        if _digit(item.planes[1], item) != "bit 1":  # plain integers are shown in full
            return f"bit 0 … bit {len(item.planes) - 1} of the value, 1 … {top}"
    return ", ".join(f"{p.coefficient} · {_digit(p, item)}" for p in item.planes)


def _are_value_bits(item: NumberFormat) -> bool:
    """Whether planes are bits of the values in two's complement."""
    return all(
        plane.truth
        == sum(
            (value >> (abs(plane.coefficient).bit_length() - 1) & 1) << code
            for code, value in enumerate(item.weight_table([1]).tolist())
        )
        for plane in item.planes
    )


def _digit(plane: Plane, item: NumberFormat) -> str:
    codes, truth = range(1 << item.code_width), item.stream_truth(plane.truth)
    if truth == (1 << len(codes)) - 1:
        return "ones"
    for bit in range(item.code_width):
        if truth == sum((code >> bit & 1) << code for code in codes):
            return f"bit {bit}"
    return f"`{truth:0{len(codes) // 4}x}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
