"""``lutra inspect``: what a model file holds."""

import click

from ..quant import ModelFile
from .model_table import print_model
from .options import JSON_OPTION, ExampleCommand

__all__ = ["inspect_command"]


@click.command(cls=ExampleCommand, name="inspect", example="lutra inspect model.lutra.safetensors")
@click.argument("model")
@JSON_OPTION
def inspect_command(model: str, as_json: bool) -> None:
    """Show what a model file holds, and check its hash."""
    opened = ModelFile(model)
    opened.verify()
    print_model(opened, as_json=as_json)
