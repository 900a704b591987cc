"""Which layers a command runs: of a model file, or a random one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from ..formats import QuantizedMatrix
from ..quant import ModelFile, load_recipe
from .config import EngineConfig
from .options import GROUP_SIZE, SHAPE, refuse_options
from .random_layer import random_layer, recipe_layer
from .select import select_layers

__all__ = ["ChosenLayers", "choose_layers", "layer_options"]

# Which options go with --shape, which with --model.
_OF_FORMAT = ("format_name", "group_size")
_OF_SHAPE = (*_OF_FORMAT, "recipe_path")
_OF_MODEL = ("patterns",)

_OPTIONS = (
    click.option("--model", "model_path", metavar="FILE", help="Model file whose layers to run."),
    click.option(
        "--layers", "patterns", multiple=True, metavar="PATTERN", help="Layers of it; default all."
    ),
    click.option(
        "--shape",
        type=SHAPE,
        metavar="NxK",
        help="Run a random layer of N rows and K columns instead, such as 1024x1024.",
    ),
    click.option(
        "--format",
        "format_name",
        default="bitmod4",
        show_default=True,
        metavar="NAME[,NAME...]",
        help="Format of the random layer; of several, every group takes one at random.",
    ),
    click.option(
        "--group-size",
        type=GROUP_SIZE,
        default=128,
        show_default=True,
        metavar="WEIGHTS",
        help="Group size of the random layer, or 'row'.",
    ),
    click.option(
        "--recipe",
        "recipe_path",
        metavar="FILE",
        help="Recipe, TOML, for the random layer instead of format and group size.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        metavar="NUMBER",
        help="Of everything random.",
    ),
)


def layer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which layers it runs: those of :func:`choose_layers`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class ChosenLayers:
    """Layers by name, read when they are needed.

    Parameters
    ----------
    names : sequence of str
        In the order in which they run.
    load : callable
        Reads one of them.
    """

    names: Sequence[str]
    load: Callable[[str], QuantizedMatrix]

    def check(self, config: EngineConfig) -> None:
        """Refuse layers that an engine was not made for, before minutes of compiling.

        Raises
        ------
        :exc:`ValueError`
            If one of them does not fit; the sentence names it.
        """
        for name in self.names:
            try:
                config.parameters.pack(self.load(name))
            except ValueError as error:
                raise ValueError(f"Layer {name!r} does not fit {config.name}: {error}") from error


def choose_layers(
    context: click.Context,
    config: EngineConfig,
    *,
    model_path: str | None,
    patterns: tuple[str, ...],
    shape: tuple[int, int] | None,
    format_name: str,
    group_size: int | None,
    recipe_path: str | None,
    seed: int,
) -> ChosenLayers:
    """Find the layers that the options of :func:`layer_options` ask for.

    Raises
    ------
    :exc:`click.UsageError`
        If the options do not go together.
    :exc:`ValueError`
        If there is no such file, layer or format.
    """
    if model_path is not None and shape is None:
        own = "goes with --shape; the layers of a model file have their own"
        refuse_options(context, _OF_SHAPE, own)
        model = ModelFile(model_path)
        return ChosenLayers(select_layers(model, patterns), model.layer)
    if shape is None or model_path is not None:
        raise click.UsageError("Give either --model FILE or --shape NxK")
    refuse_options(context, _OF_MODEL, "goes with --model")
    if recipe_path is not None:
        refuse_options(context, _OF_FORMAT, "goes with --shape where no --recipe says it")
        matrix = recipe_layer(shape, load_recipe(recipe_path), config, seed=seed)
    else:
        names = [name.strip() for name in format_name.split(",")]
        matrix = random_layer(shape, names, group_size, config, seed=seed)
    return ChosenLayers(["random"], lambda _: matrix)
