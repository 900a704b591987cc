"""``lutra evaluate``: what formats, group sizes and quantisers do to a checkpoint."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from ..formats import BLOCK_FORMATS, family
from ..quant import (
    METHODS,
    AnyRecipe,
    Checkpoint,
    FileError,
    LayeredRecipe,
    Mixture,
    ModelFile,
    Recipe,
    load_recipe,
    method_for,
    quantize_file,
)
from ..quant.imports import detect_importer
from ..sim import LanguageTest
from ..sim.tiny_lm import load
from .config import EngineConfig, load_config
from .console import print_json, progress_bar
from .evaluation import evaluate_model
from .evaluation_report import EvaluatedCase, case_panels, print_cases, report_cases, write_cases
from .options import GROUP_SIZE, JSON_OPTION, ExampleCommand, refuse_options
from .plot import draw

__all__ = ["evaluate_command"]

_OF_FORMATS = ("format_names", "group_sizes", "methods", "scale_width")
_OF_CHECKPOINT = (*_OF_FORMATS, "recipe_paths", "calibration", "patterns")


class _List(click.ParamType):
    """Values with commas between them, each as another type has it."""

    def __init__(self, inner: click.ParamType):
        self.inner = inner
        self.name = inner.name

    def convert(self, value: Any, param: Any, ctx: Any) -> list[Any]:
        """Return the values of a list with commas, each once."""
        if isinstance(value, list):
            return value
        parts = [part.strip() for part in value.split(",")]
        return list(dict.fromkeys(self.inner.convert(part, param, ctx) for part in parts))


@click.command(
    cls=ExampleCommand,
    name="evaluate",
    example="lutra evaluate model.safetensors --format int4,bitmod4 --group-size 32,128",
)
@click.argument("source")
@click.option(
    "--checkpoint", metavar="FILE", help="What SOURCE was quantised from, if it is a model file."
)
@click.option(
    "--format",
    "format_names",
    type=_List(click.STRING),
    default="bitmod4",
    show_default=True,
    metavar="NAME[,...]",
    help="Formats to try; `lutra formats` lists them.",
)
@click.option(
    "--group-size",
    "group_sizes",
    type=_List(GROUP_SIZE),
    default="128",
    show_default=True,
    metavar="WEIGHTS[,...]",
    help="Group sizes to try each format with, or 'row'; block formats have their own.",
)
@click.option(
    "--method",
    "methods",
    type=_List(click.Choice([*METHODS, "all"])),
    metavar="NAME[,...]",
    help="Quantisers to try where they serve a format, or 'all' that do, those that need "
    "--calibration only with it; by default the format's own.",
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
    "--recipe",
    "recipe_paths",
    multiple=True,
    metavar="FILE",
    help="Recipe, TOML, to try instead of formats; repeatable.",
)
@click.option(
    "--calibration",
    metavar="FILE",
    help="Activations of each layer, .safetensors, for methods and mixtures that use them.",
)
@click.option(
    "--layers",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Layers to quantise, as `lutra quantize` takes them; repeatable.",
)
@click.option(
    "--text",
    metavar="FILE",
    help="ASCII text to read: adds loss, perplexity and divergence of the logits. For checkpoints "
    "of examples/tinylm.",
)
@click.option(
    "--windows",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    metavar="COUNT",
    help="Windows of the text, spread evenly; 0 for all.",
)
@click.option(
    "--config",
    "config_name",
    metavar="CONFIG",
    help="Engine whose cycles to predict, made for each case's format: adds cycles a token.",
)
@click.option("--csv", "csv_path", metavar="FILE", help="Write the cases as CSV, too.")
@click.option("--plot", "plot_path", metavar="FILE", help="Draw them with the Pareto front, SVG.")
@JSON_OPTION
@click.pass_context
def evaluate_command(
    context: click.Context,
    source: str,
    checkpoint: str | None,
    text: str | None,
    windows: int,
    config_name: str | None,
    csv_path: str | None,
    plot_path: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Say what quantising does to a checkpoint: for each choice its size and its error.

    SOURCE is a float checkpoint, which is quantised with every format, group size and quantiser
    that is named and not kept; or a model file, with --checkpoint. The error of the weights is a
    ratio of signal to noise in decibels. With a text, products are done with the quantised weights
    in float32; how an engine rounds activations is left out.
    """
    if text is None:
        refuse_options(context, ["windows"], "goes with --text")
    config = None if config_name is None else load_config(config_name)
    given = _open_model(source)
    if given is not None:
        refuse_options(context, _OF_CHECKPOINT, "goes with a checkpoint; a model file has its own")
        if checkpoint is None:
            raise click.UsageError(
                f"{source} is a model file; give what it was made from as --checkpoint"
            )
    elif checkpoint is not None:
        raise click.UsageError(f"--checkpoint goes with a model file; {source} is none")
    opened = Checkpoint(source if checkpoint is None else checkpoint)
    if not choices["patterns"]:
        _refuse_quantised(opened)
    with progress_bar() as progress:
        test = None
        if text is not None:
            progress("reading the text in floating point", 0.0)
            content = Path(text).read_bytes()
            test = LanguageTest(load(opened.path), content, windows or None)
        common = {"checkpoint": opened, "test": test, "config": config}
        if given is not None:
            progress(str(source), 0.0)
            cases = [_measured(given, str(source), given.recipe, **common)]
        else:
            recipes = _recipes(context, **choices)
            if choices["calibration"] is not None and not any(map(_measures, recipes)):
                raise click.UsageError("--calibration is not used by any of the cases")
            cases = list(_quantised(recipes, choices, progress, common))
    if csv_path is not None:
        write_cases(Path(csv_path), cases)
    if plot_path is not None:
        Path(plot_path).write_text(draw(case_panels(cases)), encoding="utf-8")
    if as_json:
        print_json(report_cases(opened, test, cases))
    else:
        print_cases(opened, test, cases)


def _refuse_quantised(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint of which only what was not quantised would be measured."""
    found = detect_importer(checkpoint.source)
    if found is not None:
        raise click.UsageError(
            f"{checkpoint.path} is a quantised checkpoint, of {found.name}; give one of floats, or "
            "name layers that it has as floats with --layers"
        )


def _open_model(source: str) -> ModelFile | None:
    """Open a model file; None for a safetensors file, or a folder of them, that is none."""
    Checkpoint(source)
    if Path(source).is_dir():
        return None
    try:
        return ModelFile(source)
    except FileError as error:
        if "not a Lutra model file" in str(error):
            return None
        raise


def _recipes(
    context: click.Context,
    *,
    format_names: list[str],
    group_sizes: list[int | None],
    methods: list[str] | None,
    scale_width: int,
    recipe_paths: tuple[str, ...],
    calibration: str | None,
    **_: Any,
) -> list[tuple[str, AnyRecipe]]:
    """Return all combinations that there are, each with its name."""
    if recipe_paths:
        refuse_options(context, _OF_FORMATS, "goes without --recipe; write it there")
        return [(Path(path).name, load_recipe(path)) for path in recipe_paths]
    found: list[tuple[str, AnyRecipe]] = []
    for name in format_names:
        if name in BLOCK_FORMATS:
            found.append((name, _block_recipe(name, methods, scale_width)))
            continue
        chosen = family(name)
        serving = [item.name for item in METHODS.values() if item.serves(chosen)]
        if methods is None:
            wanted = [method_for(chosen).name]
        elif "all" in methods:
            wanted = [
                item for item in serving if calibration is not None or not METHODS[item].calibrated
            ]
        else:
            wanted = [item for item in methods if item in serving]
        if not wanted:
            method_for(chosen, (methods or [""])[0])
        for size in group_sizes:
            for method in wanted:
                recipe = Recipe(
                    format=name, group_size=size, method=method, scale_width=scale_width
                )
                found.append((name, recipe))
    return found


def _block_recipe(name: str, methods: list[str] | None, scale_width: int) -> Recipe:
    """Return the one recipe of a block format, whose group size and method are its own."""
    own = BLOCK_FORMATS[name].method
    method = own if methods is None or {"all", own} & set(methods) else methods[0]
    return Recipe(format=name, method=method, scale_width=scale_width)


def _measures(named: tuple[str, AnyRecipe]) -> bool:
    """Whether a recipe uses calibration data."""
    recipe = named[1]
    rules = recipe.rules if isinstance(recipe, LayeredRecipe) else (recipe,)
    return any(isinstance(rule, Mixture) or rule.needs_calibration for rule in rules)


def _quantised(
    recipes: Sequence[tuple[str, AnyRecipe]],
    choices: dict[str, Any],
    progress: Any,
    common: dict[str, Any],
) -> Iterator[EvaluatedCase]:
    """Quantise by each recipe into a file that is not kept, and measure that."""
    with TemporaryDirectory() as folder:
        for index, (name, recipe) in enumerate(recipes):
            progress(name, index / len(recipes))
            model = quantize_file(
                common["checkpoint"].path,
                Path(folder) / "model.lutra.safetensors",
                recipe,
                patterns=list(choices["patterns"]) or None,
                calibration=choices["calibration"] if _measures((name, recipe)) else None,
            )
            yield _measured(model, name, recipe, **common)


def _measured(
    model: ModelFile,
    name: str,
    recipe: AnyRecipe | None,
    *,
    checkpoint: Checkpoint,
    test: LanguageTest | None,
    config: EngineConfig | None,
) -> EvaluatedCase:
    uniform = recipe if isinstance(recipe, Recipe) else None
    return EvaluatedCase(
        name=name,
        group_size=("row" if uniform.group_size is None else str(uniform.group_size))
        if uniform
        else "",
        method=str(uniform.method) if uniform else "",
        evaluation=evaluate_model(model, checkpoint, test=test, config=config),
    )
