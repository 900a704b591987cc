"""What a model file holds, printed."""

import json
from collections.abc import Mapping
from typing import Any

from ..formats import CATALOG, CodebookFormat
from ..quant import ModelFile
from .console import number, print_json, print_line, print_table

__all__ = ["print_model"]

# A format of several families goes by the name of the first.
_FAMILIES = {
    item.name: entry.name for entry in reversed(CATALOG.values()) for item in entry.members
}


def print_model(model: ModelFile, *, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Print the layers of a model file: shape, formats and their shares, group size and bits.

    ``bits_per_weight`` are those of the file, where a code takes the width of the layer's widest
    format; ``code_bits`` count every code at its own width and leave out scales and ids. What is
    in ``more`` joins the JSON object.
    """
    rows = [_describe(model, name) for name in model.layers]
    weights = sum(row["rows"] * row["columns"] for row in rows)
    bits = sum(8 * model.stored_bytes(name) for name in model.layers)
    code_bits = sum(row["code_bits"] * row["rows"] * row["columns"] for row in rows)
    if as_json:
        print_json({
            "file": str(model.path),
            "recipe": json.loads(model.recipe.to_json()) if model.recipe else None,
            "recipe_sha256": model.recipe_sha256,
            "calibration_sha256": model.calibration_sha256,
            "allocations": model.allocations,
            "weights": weights,
            "bits_per_weight": bits / weights if weights else None,
            "code_bits": code_bits / weights if weights else None,
            "layers": rows,
            **(more or {}),
        })
        return
    table = [
        (
            row["layer"],
            f"{row['rows']} x {row['columns']}",
            row["format"] or "mixture",
            row["group_size"],
            number(row["bits_per_weight"]),
            number(row["code_bits"]),
            _groups(row),
        )
        for row in rows
    ]
    columns = ("layer", "shape", "format", "group", "bits a weight", "code bits", "groups")
    average = ""
    if weights:
        average = f" at {bits / weights:.3f} bits as stored, {code_bits / weights:.3f} code bits"
    print_table(f"{model.path}: {weights:,} weights{average}", columns, table)
    for row in rows:
        for name, values in row.get("codebooks", {}).items():
            print_line(f"{row['layer']}: {name} is {', '.join(map(str, values))}")


def _describe(model: ModelFile, name: str) -> dict[str, Any]:
    record = model.record(name)
    count = record.rows * record.columns
    shares: dict[str, float] = {}
    for item, weights in model.weight_counts(name).items():
        owner = _FAMILIES.get(item, item)
        shares[owner] = shares.get(owner, 0.0) + weights / count
    described = {
        "layer": name,
        "rows": record.rows,
        "columns": record.columns,
        "format": record.format,
        "group_size": record.group_size,
        "bits_per_weight": model.bits_per_weight(name),
        "code_bits": model.code_bits(name),
        "shares": shares,
        "groups": model.group_counts(name),
    }
    codebooks = {
        item.name: list(item.values) for item in record.members if isinstance(item, CodebookFormat)
    }
    return {**described, "codebooks": codebooks} if codebooks else described


def _groups(row: dict[str, Any]) -> str:
    """Write the groups of each format; for a mixture of families, their shares of the weights."""
    if row["format"]:
        return " ".join(f"{name}:{count}" for name, count in row["groups"].items())
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in row["shares"].items())
