"""``lutra export``: from a model file to another tool's checkpoint."""

import click

from ..quant.exports import EXPORTERS, SCALE_TYPES, export_file
from .console import print_json, print_line, weights_bar
from .options import JSON_OPTION, ExampleCommand

__all__ = ["export_command"]


@click.command(
    cls=ExampleCommand,
    name="export",
    example="lutra export model.lutra.safetensors --to compressed-tensors --scales float16 -o out",
)
@click.argument("model")
@click.option(
    "--to",
    "exporter",
    required=True,
    type=click.Choice(list(EXPORTERS)),
    help="Format of the checkpoint.",
)
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write, new or empty.")
@click.option(
    "--scales",
    type=click.Choice(["exact", *SCALE_TYPES]),
    default="exact",
    show_default=True,
    help="Type to round scales to; 'exact' refuses those that no float32 is.",
)
@JSON_OPTION
def export_command(model: str, exporter: str, output: str, scales: str, as_json: bool) -> None:
    """Write the layers of a model file as a checkpoint of another tool.

    For layers of integers: int2 to int8, with and without zero-points. Codes and zero-points are
    never rounded. Scales of imported layers need no rounding; those of others seldom go without.
    """
    with weights_bar() as progress:
        made = export_file(
            model,
            output,
            exporter,
            scale_type=None if scales == "exact" else scales,
            progress=progress,
        )
    if as_json:
        print_json({
            "folder": str(made.folder),
            "format": exporter,
            "files": [path.name for path in made.files],
            "layers": list(made.layers),
            "scale_change": made.scale_change,
        })
        return
    names = ", ".join(path.name for path in made.files)
    how = f"scales rounded by {made.scale_change:.1e} of themselves at most"
    if not made.scale_change:
        how = "without rounding"
    print_line(f"{made.folder}: {len(made.layers)} layers as {exporter}, {how}: {names}")
    print_line("Tensors that are not quantised, and the rest of config.json, are the model's own.")
