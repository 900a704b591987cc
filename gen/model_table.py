"""What a model file holds, printed."""

import json

from ..quant import ModelFile
from .console import number, print_json, print_table

__all__ = ["print_model"]


def print_model(model: ModelFile, *, as_json: bool) -> None:
    """Print the layers of a model file: shape, format, group size and bits as stored."""
    rows = [
        {
            "layer": name,
            "rows": (record := model.record(name)).rows,
            "columns": record.columns,
            "format": record.format,
            "group_size": record.group_size,
            "bits_per_weight": model.bits_per_weight(name),
            "groups": model.group_counts(name),
        }
        for name in model.layers
    ]
    weights = sum(row["rows"] * row["columns"] for row in rows)
    bits = sum(8 * model.stored_bytes(name) for name in model.layers)
    if as_json:
        print_json({
            "file": str(model.path),
            "recipe": json.loads(model.recipe.to_json()) if model.recipe else None,
            "weights": weights,
            "bits_per_weight": bits / weights if weights else None,
            "layers": rows,
        })
        return
    table = [
        (
            row["layer"],
            f"{row['rows']} x {row['columns']}",
            row["format"],
            row["group_size"],
            number(row["bits_per_weight"]),
            " ".join(f"{name}:{count}" for name, count in row["groups"].items()),
        )
        for row in rows
    ]
    columns = ("layer", "shape", "format", "group", "bits a weight", "groups")
    average = f" at {bits / weights:.3f} bits as stored" if weights else ""
    print_table(f"{model.path}: {weights:,} weights{average}", columns, table)
