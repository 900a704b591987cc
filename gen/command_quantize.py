"""``lutra quantize``: from a checkpoint, float or quantised, to a model file."""

from collections.abc import Sequence

import click

from ..formats import BLOCK_FORMATS, family
from ..quant import (
    METHODS,
    AnyRecipe,
    LayeredRecipe,
    Mixture,
    OptionValue,
    Recipe,
    load_recipe,
    method_for,
    parse_options,
    quantize_file,
)
from ..quant.imports import IMPORTERS, CheckpointSource, detect_importer, import_file
from .config import load_config
from .console import print_line, weights_bar
from .model_table import print_model
from .options import GROUP_SIZE, JSON_OPTION, ExampleCommand, refuse_options

__all__ = ["quantize_command"]

# What a recipe file says instead.
_OF_UNIFORM = ("format_name", "group_size", "method", "scale_width", "words")
# What a quantised checkpoint says itself.
_OF_QUANTISERS = (*_OF_UNIFORM, "recipe_path", "calibration", "config")
_SHOWN = 8  # names of tensors in a line


@click.command(
    cls=ExampleCommand,
    name="quantize",
    example="lutra quantize model.safetensors -o model.lutra.safetensors --format bitmod4",
)
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, metavar="FILE", help="Model file to write.")
@click.option(
    "--from",
    "origin",
    type=click.Choice(["auto", "float", *IMPORTERS]),
    default="auto",
    show_default=True,
    help="What the checkpoint is: of floats, or quantised by another tool, which is imported "
    "without rounding.",
)
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
    default="auto",
    metavar="WEIGHTS",
    help="Weights of one group, or 'row'. Default: 128, or what a block format such as mxfp4 has.",
)
@click.option(
    "--method", type=click.Choice(list(METHODS)), help="Quantiser; by default the format's own."
)
@click.option(
    "--scale-width",
    type=click.IntRange(1, 31),
    default=8,
    show_default=True,
    metavar="BITS",
    help="Magnitude bits of a scale.",
)
@click.option(
    "--option",
    "words",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of the method; repeatable. docs/quantisers.md lists them.",
)
@click.option(
    "--layers",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Layers to take, such as 'model.layers.0.*'; repeatable. Default: every matrix named "
    "*.weight but embeddings.",
)
@click.option(
    "--recipe",
    "recipe_path",
    metavar="FILE",
    help="Recipe, TOML, instead of format, group size, method, its options and scale width.",
)
@click.option(
    "--calibration",
    metavar="FILE",
    help="Activations of each layer, .safetensors, for methods and mixtures that use them.",
)
@click.option(
    "--config",
    metavar="CONFIG",
    help="Engine that a recipe's budget of cycles is for. Default: a cycle for each plane.",
)
@click.option(
    "--precision",
    type=click.IntRange(1, 16),
    metavar="BITS",
    help="Which precision to import of a checkpoint that has several. Default: the largest.",
)
@JSON_OPTION
@click.pass_context
def quantize_command(
    context: click.Context,
    checkpoint: str,
    output: str,
    origin: str,
    format_name: str,
    group_size: int | str | None,
    method: str | None,
    scale_width: int,
    words: tuple[str, ...],
    patterns: tuple[str, ...],
    recipe_path: str | None,
    calibration: str | None,
    config: str | None,
    precision: int | None,
    as_json: bool,
) -> None:
    """Quantise a checkpoint into a model file, or import one that is quantised already.

    CHECKPOINT is a .safetensors file, or a folder of shards with their index. Floats are float32,
    float16 or bfloat16; what is quantised keeps its codes and scales, see docs/checkpoints.md.
    """
    source = CheckpointSource(checkpoint)
    importer = _importer(source, origin)
    if importer is not None:
        instead = f"does not go with a checkpoint of {importer}, which is imported as it is"
        refuse_options(context, _OF_QUANTISERS, instead)
        _import(source, output, importer, patterns, precision, as_json=as_json)
        return
    refuse_options(context, ("precision",), "goes with a checkpoint that is quantised already")
    if recipe_path is None:
        if config is not None:
            raise click.UsageError("--config goes with --recipe; one format has no choice")
        recipe = Recipe(
            format=format_name,
            group_size=group_size,
            method=method,
            scale_width=scale_width,
            options=_options(format_name, method, words),
        )
    else:
        refuse_options(context, _OF_UNIFORM, "goes without --recipe; write it there")
        recipe = load_recipe(recipe_path)
    engine = {}
    if config is not None:
        if not _in_cycles(recipe):
            raise click.UsageError("--config goes with a recipe whose budget is in cycles")
        parameters = load_config(config).parameters
        _check_formats(recipe, parameters.layout.formats, config)
        engine["cycles"] = parameters.slice_cycles
    with weights_bar() as progress:
        model = quantize_file(
            source,
            output,
            recipe,
            patterns=list(patterns) or None,
            calibration=calibration,
            **engine,
            progress=progress,
        )
    print_model(model, as_json=as_json)


def _options(
    format_name: str, method: str | None, words: Sequence[str]
) -> dict[str, OptionValue] | None:
    """Read the options of a method, or of the format's default where none is named."""
    if not words:
        return None
    block = BLOCK_FORMATS.get(format_name)
    chosen = method_for(family(format_name), method) if block is None else METHODS[block.method]
    return parse_options(chosen.name, chosen.options, words)


def _importer(source: CheckpointSource, origin: str) -> str | None:
    """Return the name of the importer that a checkpoint needs; None for one of floats."""
    if origin == "auto":
        found = detect_importer(source)
        return None if found is None else found.name
    return None if origin == "float" else origin


def _import(
    source: CheckpointSource,
    output: str,
    importer: str,
    patterns: tuple[str, ...],
    precision: int | None,
    *,
    as_json: bool,
) -> None:
    with weights_bar() as progress:
        made = import_file(
            source,
            output,
            importer,
            patterns=list(patterns) or None,
            precision=precision,
            progress=progress,
        )
    more = {
        "imported_from": made.importer,
        "left_out": list(made.left_out),
        "notes": list(made.notes),
    }
    print_model(made.model, as_json=as_json, more=more)
    if as_json:
        return
    print_line(f"Imported from {made.importer}{'' if made.notes else ', without rounding'}")
    for note in made.notes:
        print_line(note)
    if made.left_out:
        some = ", ".join(made.left_out[:_SHOWN]) + (", …" if len(made.left_out) > _SHOWN else "")
        print_line(f"Left out, of no quantised layer: {len(made.left_out)} tensors: {some}")


def _in_cycles(recipe: AnyRecipe) -> list[Mixture]:
    """Return the mixtures whose budget is in cycles."""
    rules = recipe.rules if isinstance(recipe, LayeredRecipe) else (recipe,)
    return [rule for rule in rules if isinstance(rule, Mixture) and rule.quantity == "cycles"]


def _check_formats(recipe: AnyRecipe, decoded: Sequence[str], config: str) -> None:
    """Refuse formats for which the engine has no cycles."""
    for rule in _in_cycles(recipe):
        for name in rule.formats:
            if name not in decoded:
                raise click.UsageError(
                    f"{config} does not decode the recipe's format {name!r}, only "
                    f"{', '.join(decoded)}; add it to stream.formats or take it out of the recipe"
                )
