"""``lutra formats``: the number formats, and what one of them is made of."""

from dataclasses import asdict
from typing import Any

import click

from ..formats import (
    ALIASES,
    BLOCK_FORMATS,
    CATALOG,
    CODEBOOKS,
    CodebookSlot,
    NumberFormat,
    ValueFormat,
    family,
)
from .console import print_json, print_line, print_table
from .options import JSON_OPTION, ExampleCommand

__all__ = ["formats_command"]


@click.command(cls=ExampleCommand, name="formats", example="lutra formats bitmod4")
@click.argument("name", required=False)
@JSON_OPTION
def formats_command(name: str | None, as_json: bool) -> None:
    """List the number formats, or show the values, planes and terms of one."""
    if name is None:
        _list_formats(as_json)
        return
    block = BLOCK_FORMATS.get(name)
    chosen = family(block.element if block else name)
    if as_json:
        members = [_describe(item) for item in chosen.members]
        more = asdict(block) if block else {}
        print_json({"name": name, "summary": chosen.summary, "members": members, **more})
        return
    if block:
        print_line(
            f"{block.name}: blocks of {block.group_size} weights of {block.element}, whose scales "
            f"method {block.method!r} makes; {block.source}"
        )
    for item in chosen.members:
        if isinstance(item, CodebookSlot):
            _show_slot(item)
            continue
        _show_planes(item)
        if isinstance(item, ValueFormat):
            _show_values(item)


def _list_formats(as_json: bool) -> None:
    rows = [
        {
            "name": entry.name,
            "code_bits": entry.code_width,
            "planes": max(len(item.planes) for item in entry.members),
            "members": len(entry.members),
            "summary": entry.summary,
        }
        for entry in (CATALOG | CODEBOOKS).values()
    ]
    blocks = [
        {"name": item.name, "element": item.element, "group_size": item.group_size}
        for item in BLOCK_FORMATS.values()
    ]
    if as_json:
        print_json({"formats": rows, "block_formats": blocks, "aliases": ALIASES})
        return
    columns = ("name", "code bits", "planes", "members", "summary")
    print_table("Number formats", columns, [list(row.values()) for row in rows])
    columns = ("name", "element", "group size")
    print_table(
        "Block formats, for lutra quantize", columns, [list(row.values()) for row in blocks]
    )
    print_line("Other names: " + ", ".join(f"{new} = {old}" for new, old in ALIASES.items()))


def _describe(item: NumberFormat) -> dict[str, Any]:
    if isinstance(item, CodebookSlot):
        return {
            "name": item.name,
            "code_bits": item.code_width,
            "scales": item.scale_count,
            "zero_point": item.has_zero_point,
            "entries": 1 << item.code_width,
            "least": -item.peak,
            "greatest": item.peak - 1,
        }
    described: dict[str, Any] = {
        "name": item.name,
        "code_bits": item.code_width,
        "scales": item.scale_count,
        "zero_point": item.has_zero_point,
        "planes": [
            {
                "truth": f"{plane.truth:0{max(1, (1 << item.code_width) // 4)}x}",
                "coefficient": plane.coefficient,
                "digits": [-1, 1] if plane.bipolar else [0, 1],
                "scale": plane.scale_index,
            }
            for plane in item.planes
        ],
    }
    if isinstance(item, ValueFormat):
        described["grid"] = 2.0**item.grid_exponent
        described["values"] = list(item.values)
        described["terms"] = [[term.value for term in terms] for terms in item.terms]
    if not isinstance(item, CodebookSlot):
        described["source"] = getattr(item, "source", "")
    return described


def _show_planes(item: NumberFormat) -> None:
    rows = [
        (
            index,
            f"{plane.coefficient:+d}",
            "-1, +1" if plane.bipolar else "0, 1",
            plane.scale_index,
            "".join(str(plane.truth >> code & 1) for code in range(1 << item.code_width)),
        )
        for index, plane in enumerate(item.planes)
    ]
    facts = [
        f"{item.name}: {item.code_width}-bit codes",
        _counted(len(item.planes), "plane"),
        f"{_counted(item.scale_count, 'scale')} a group",
    ]
    if item.has_zero_point:
        facts.append("a zero-point a group")
    columns = ("plane", "coefficient", "digits", "scale", "digit of code 0, 1, 2, ...")
    print_table(", ".join(facts), columns, rows)


def _show_slot(item: CodebookSlot) -> None:
    print_line(
        f"{item.name}: {item.code_width}-bit codes, {_counted(item.scale_count, 'scale')} a group, "
        f"a codebook of {1 << item.code_width} integers in {-item.peak}..{item.peak - 1}"
    )
    print_line("  A recipe gives the integers as codebook = [...].")
    print_line("  stream.codebook_width of a configuration is the bits of one in the engine,")
    print_line("  stream.codebook_terms the signed powers of two; a term engine needs those.")


def _show_values(item: ValueFormat) -> None:
    step = 2.0**item.grid_exponent
    rows = [
        (
            f"{code:0{item.code_width}b}",
            value,
            f"{value * step:g}",
            " ".join(f"{term.value:+d}" for term in terms) or "none",
        )
        for code, (value, terms) in enumerate(zip(item.values, item.terms, strict=True))
    ]
    columns = ("code", "on the grid", "value", "signed powers of two")
    print_table(f"{item.name}: grid step {step:g}; {item.source}", columns, rows)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
