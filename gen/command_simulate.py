"""``lutra simulate``: layers through hardware, every output bit compared with the golden model."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.core import ParameterSource

from ..formats import QuantizedMatrix
from ..quant import ModelFile, load_recipe
from .backends import BACKENDS, make_backend
from .config import EngineConfig
from .console import number, print_json, print_line, print_table, progress_bar
from .options import (
    GROUP_SIZE,
    JSON_OPTION,
    SETTINGS_OPTION,
    SHAPE,
    ExampleCommand,
    configure,
)
from .random_layer import random_layer, recipe_layer
from .select import select_layers
from .simulate import LayerComparison, compare_layer, random_tokens, summarize

__all__ = ["simulate_command"]

# Which options go with --shape, which with --model.
_OF_FORMAT = ("format_name", "group_size")
_OF_SHAPE = (*_OF_FORMAT, "recipe_path")
_OF_MODEL = ("patterns",)


@click.command(
    cls=ExampleCommand,
    name="simulate",
    example="lutra simulate small --shape 1024x1024 --format bitmod4 --json",
)
@click.argument("config")
@click.option("--model", "model_path", metavar="FILE", help="Model file whose layers to run.")
@click.option(
    "--layers", "patterns", multiple=True, metavar="PATTERN", help="Layers of it; default all."
)
@click.option(
    "--shape",
    type=SHAPE,
    metavar="NxK",
    help="Run a random layer of N rows and K columns instead, such as 1024x1024.",
)
@click.option(
    "--format",
    "format_name",
    default="bitmod4",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="Format of the random layer; of several, every group takes one at random.",
)
@click.option(
    "--group-size",
    type=GROUP_SIZE,
    default=128,
    show_default=True,
    metavar="WEIGHTS",
    help="Group size of the random layer, or 'row'.",
)
@click.option(
    "--recipe",
    "recipe_path",
    metavar="FILE",
    help="Recipe, TOML, for the random layer instead of format and group size.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="COUNT",
    help="Activation vectors a layer.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="Of everything random.",
)
@click.option(
    "--sim",
    type=click.Choice(list(BACKENDS)),
    default="verilator",
    show_default=True,
    help="What runs the engine.",
)
@SETTINGS_OPTION
@JSON_OPTION
@click.pass_context
def simulate_command(
    context: click.Context,
    config: str,
    model_path: str | None,
    patterns: tuple[str, ...],
    shape: tuple[int, int] | None,
    format_name: str,
    group_size: int | None,
    recipe_path: str | None,
    tokens: int,
    seed: int,
    sim: str,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run layers through the engine and compare it with its models.

    Every output bit with the golden model's, and the cycles with the cycle model's.
    """
    chosen = configure(config, settings)
    names: Sequence[str]
    load: Callable[[str], QuantizedMatrix]
    if model_path is not None and shape is None:
        _refuse(context, _OF_SHAPE, "--shape; the layers of a model file have their own")
        model = ModelFile(model_path)
        names, load = select_layers(model, patterns), model.layer
    elif shape is not None and model_path is None:
        _refuse(context, _OF_MODEL, "--model")
        if recipe_path is not None:
            _refuse(context, _OF_FORMAT, "--shape where no --recipe says it")
            matrix = recipe_layer(shape, load_recipe(recipe_path), chosen, seed=seed)
        else:
            names = [name.strip() for name in format_name.split(",")]
            matrix = random_layer(shape, names, group_size, chosen, seed=seed)
        names, load = ["random"], lambda _: matrix
    else:
        raise click.UsageError("Give either --model FILE or --shape NxK")

    with progress_bar() as progress:
        # Refuse a layer before minutes of compiling.
        for name in names:
            progress(f"checking {name}", 0.0)
            _check_layer(name, load(name), chosen)
        backend = make_backend(sim, chosen, progress)
        comparisons = []
        for index, name in enumerate(names):
            progress(name, index / len(names))
            layer = load(name)
            x = random_tokens(chosen.parameters.numerics, tokens, layer.columns, seed=seed + index)
            comparisons.append(compare_layer(name, layer, x, config=chosen, backend=backend))
    report = summarize(comparisons, sim=sim)
    if as_json:
        print_json(report)
    else:
        _print_comparisons(comparisons, report)
    if not report["bit_exact"] or report["cycles_as_predicted"] is False:
        context.exit(1)


def _refuse(context: click.Context, names: Sequence[str], owner: str) -> None:
    """Refuse options that would have no effect."""
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[0]} goes with {owner}")


def _check_layer(name: str, layer: QuantizedMatrix, config: EngineConfig) -> None:
    try:
        config.parameters.pack(layer)
    except ValueError as error:
        raise ValueError(f"Layer {name!r} does not fit {config.name}: {error}") from error


def _print_comparisons(comparisons: list[LayerComparison], report: dict[str, Any]) -> None:
    rows = [
        (
            item.layer,
            f"{item.rows} x {item.columns}",
            item.format,
            item.outputs,
            item.mismatches,
            number(item.cycles, 0),
            number(item.predicted_cycles, 0),
            _percent(item.utilisation),
            number(item.bits_per_weight),
        )
        for item in comparisons
    ]
    columns = ("layer", "shape", "format", "outputs", "differ", "cycles", "predicted")
    print_table(f"Simulated by {report['sim']}", (*columns, "utilisation", "bits a weight"), rows)
    verdict = "bit-exact" if report["bit_exact"] else f"{report['mismatches']:,} DIFFER"
    if report["cycles_as_predicted"] is False:
        verdict += ", cycles NOT AS PREDICTED"
    print_line(
        f"{report['outputs']:,} outputs, {verdict}; "
        f"utilisation {_percent(report['utilisation'])}, {report['seconds']:.2f} s"
    )


def _percent(share: float | None) -> str:
    return number(None if share is None else 100 * share, 1, " %")
