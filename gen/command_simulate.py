"""``lutra simulate``: layers through hardware, every output bit compared with the golden model."""

from typing import Any

import click

from .backends import BACKENDS, make_backend
from .console import number, print_json, print_line, print_table, progress_bar
from .layer_choice import choose_layers, layer_options
from .options import JSON_OPTION, SETTINGS_OPTION, ExampleCommand, configure
from .simulate import LayerComparison, compare_layer, summarize
from .tokens import random_tokens

__all__ = ["simulate_command"]


@click.command(
    cls=ExampleCommand,
    name="simulate",
    example="lutra simulate small --shape 1024x1024 --format bitmod4 --json",
)
@click.argument("config")
@layer_options
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="COUNT",
    help="Activation vectors a layer.",
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
    tokens: int,
    sim: str,
    settings: tuple[str, ...],
    as_json: bool,
    seed: int,
    **which: Any,
) -> None:
    """Run layers through the engine and compare it with its models.

    Every output bit with the golden model's, and the cycles with the cycle model's.
    """
    chosen = configure(config, settings)
    layers = choose_layers(context, chosen, seed=seed, **which)
    with progress_bar() as progress:
        progress("checking the layers", 0.0)
        layers.check(chosen)
        backend = make_backend(sim, chosen, progress)
        comparisons = []
        for index, name in enumerate(layers.names):
            progress(name, index / len(layers.names))
            layer = layers.load(name)
            x = random_tokens(chosen.parameters.numerics, tokens, layer.columns, seed=seed + index)
            comparisons.append(compare_layer(name, layer, x, config=chosen, backend=backend))
    report = summarize(comparisons, sim=sim)
    if as_json:
        print_json(report)
    else:
        _print_comparisons(comparisons, report)
    if not report["bit_exact"] or report["cycles_as_predicted"] is False:
        context.exit(1)


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
