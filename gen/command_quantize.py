"""``lutra quantize``: from a float checkpoint to a model file."""

import click

from ..quant import METHODS, Recipe, quantize_file
from .console import progress_bar
from .model_table import print_model
from .options import GROUP_SIZE, JSON_OPTION, ExampleCommand

__all__ = ["quantize_command"]


@click.command(
    cls=ExampleCommand,
    name="quantize",
    example="lutra quantize model.safetensors -o model.lutra.safetensors --format bitmod4",
)
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, metavar="FILE", help="Model file to write.")
@click.option(
    "--format",
    "format_name",
    default="bitmod4",
    show_default=True,
    metavar="NAME",
    help="Format; `lutra formats` lists them.",
)
@click.option(
    "--group-size",
    type=GROUP_SIZE,
    default=128,
    show_default=True,
    metavar="WEIGHTS",
    help="Weights of one group, or 'row'.",
)
@click.option(
    "--method", type=click.Choice(list(METHODS)), help="Quantiser; by default the format's own."
)
@click.option(
    "--scale-width",
    type=click.IntRange(1, 16),
    default=8,
    show_default=True,
    metavar="BITS",
    help="Magnitude bits of a scale.",
)
@click.option(
    "--layers",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Layers to take, such as 'model.layers.0.*'; repeatable. Default: every matrix named "
    "*.weight but embeddings.",
)
@JSON_OPTION
def quantize_command(
    checkpoint: str,
    output: str,
    format_name: str,
    group_size: int | None,
    method: str | None,
    scale_width: int,
    patterns: tuple[str, ...],
    as_json: bool,
) -> None:
    """Quantise a .safetensors checkpoint (float32, float16, bfloat16) into a model file."""
    recipe = Recipe(
        format=format_name, group_size=group_size, method=method, scale_width=scale_width
    )
    with progress_bar() as progress:
        model = quantize_file(
            checkpoint,
            output,
            recipe,
            patterns=list(patterns) or None,
            progress=lambda layer, done, total: progress(layer, done / max(total, 1)),
        )
    print_model(model, as_json=as_json)
