"""``lutra export``: from a model file to another tool's checkpoint."""

import click

from ..quant.exports import EXPORTERS, export_file
from .console import print_json, print_line, weights_bar
from .options import JSON_OPTION, ExampleCommand

__all__ = ["export_command"]


@click.command(
    cls=ExampleCommand,
    name="export",
    example="lutra export model.lutra.safetensors --to gptq -o folder",
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
@JSON_OPTION
def export_command(model: str, exporter: str, output: str, as_json: bool) -> None:
    """Write the layers of a model file as a checkpoint of another tool, without rounding.

    For layers of integers: int2 to int8, with and without zero-points.
    """
    with weights_bar() as progress:
        made = export_file(model, output, exporter, progress=progress)
    if as_json:
        print_json({
            "folder": str(made.folder),
            "format": exporter,
            "files": [path.name for path in made.files],
            "layers": list(made.layers),
        })
        return
    names = ", ".join(path.name for path in made.files)
    print_line(f"{made.folder}: {len(made.layers)} layers as {exporter}, without rounding: {names}")
    print_line("Tensors that are not quantised, and the rest of config.json, are the model's own.")
