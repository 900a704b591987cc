"""``lutra compare``: the same layers through several back ends, every pair compared bit by bit."""

from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from ..formats import Numerics, QuantizedMatrix
from ..quant import Calibration
from ..sim import DTYPES
from .backends import BACKENDS, make_backend
from .compare import FirstDifference, LayerResults, compare_backends, first_difference
from .console import print_json, print_line, print_table, progress_bar
from .layer_choice import choose_layers, layer_options
from .options import JSON_OPTION, SETTINGS_OPTION, ExampleCommand, configure, refuse_options
from .tokens import mixed_tokens

__all__ = ["compare_command"]


class _Names(click.ParamType):
    name = "back ends"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        """Return the names of a list with commas."""
        if isinstance(value, list):
            return value
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if name not in BACKENDS:
                self.fail(f"{name!r} is not one of {', '.join(BACKENDS)}", param, ctx)
            if names.count(name) > 1:
                self.fail(f"{name!r} is named twice; name each back end once", param, ctx)
        if len(names) < 2:
            self.fail(f"name at least two of {', '.join(BACKENDS)}, not only {value}", param, ctx)
        return names


@click.command(
    cls=ExampleCommand,
    name="compare",
    example="lutra compare tiny --shape 128x128 --group-size 64 --backends numpy,amaranth",
)
@click.argument("config")
@layer_options
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="COUNT",
    help="Activation vectors a layer: one normally distributed, the others adversarial ones, of "
    "which each layer goes on where the one before ended.",
)
@click.option(
    "--inputs",
    "inputs_path",
    metavar="FILE",
    help="Activations of each layer, .safetensors like a calibration file, to take the first "
    "--tokens of instead.",
)
@click.option(
    "--backends",
    type=_Names(),
    default="numpy,verilator,amaranth",
    show_default=True,
    metavar="NAME,NAME[,...]",
    help=f"What computes the layers: two or more of {', '.join(BACKENDS)}.",
)
@SETTINGS_OPTION
@JSON_OPTION
@click.pass_context
def compare_command(
    context: click.Context,
    config: str,
    tokens: int,
    inputs_path: str | None,
    backends: list[str],
    settings: tuple[str, ...],
    as_json: bool,
    seed: int,
    **which: Any,
) -> None:
    """Run layers through several back ends and compare every two of them.

    All bits of all outputs, NaNs too. Of the first output that differs it says the token, the row
    and both values in hexadecimal, and the first intermediate on the way there that differs:
    aligned activation, plane sum, group sum, row sum, or the output's conversion. To find that,
    both back ends run the token with rows that let only one part of the sum through.
    """
    chosen = configure(config, settings)
    numerics = chosen.parameters.numerics
    if inputs_path is not None:
        refuse_options(context, ["seed"], "goes without --inputs; nothing is random then")
        if which["model_path"] is None:
            refuse_options(context, ["inputs_path"], "goes with --model")
    layers = choose_layers(context, chosen, seed=seed, **which)
    inputs = None if inputs_path is None else Calibration(inputs_path)

    def tokens_of(index: int, name: str, layer: QuantizedMatrix) -> tuple[list[str], npt.NDArray]:
        if inputs is not None:
            return _given_tokens(inputs, name, layer, tokens, numerics)
        return mixed_tokens(numerics, tokens, layer.columns, seed=seed, layer=index)

    with progress_bar() as progress:
        progress("checking the layers", 0.0)
        layers.check(chosen)
        for index, name in enumerate(layers.names if inputs else ()):
            tokens_of(index, name, layers.load(name))
        made = {name: make_backend(name, chosen, progress) for name in backends}
        results: list[LayerResults] = []
        first: FirstDifference | None = None
        for index, name in enumerate(layers.names):
            layer = layers.load(name)
            names, x = tokens_of(index, name, layer)
            common: dict[str, Any] = {"config": chosen, "backends": made, "progress": progress}
            results.append(compare_backends(name, layer, x, tokens=names, **common))
            first = first or first_difference(results[-1], layer, x, **common)
    if as_json:
        print_json(_report(chosen.name, backends, results, first))
    else:
        _print(backends, results, first)
    if first is not None:
        context.exit(1)


def _given_tokens(
    inputs: Calibration, name: str, layer: QuantizedMatrix, count: int, numerics: Numerics
) -> tuple[list[str], npt.NDArray]:
    """Return the first tokens of a file, rounded to the activation type."""
    if not numerics.is_float:
        raise ValueError(f"--inputs holds floats, but the engine takes {numerics.activation}")
    floats = inputs.layer(name, layer.rows, layer.columns).inputs[:count]
    with np.errstate(over="ignore"):
        x = floats.astype(DTYPES[numerics.activation])
    if not np.isfinite(x.astype(np.float32)).all():
        raise ValueError(f"Inputs of layer {name!r} are too large for {numerics.activation}")
    return [f"input {index}" for index in range(len(x))], x


def _report(
    engine: str,
    backends: Sequence[str],
    results: Sequence[LayerResults],
    first: FirstDifference | None,
) -> dict[str, Any]:
    return {
        "equal": first is None,
        "differences": sum(item.differences for item in results),
        "outputs": sum(item.rows * len(item.tokens) for item in results),
        "config": engine,
        "backends": list(backends),
        "seconds": {name: sum(item.seconds[name] for item in results) for name in backends},
        "layers": [item.to_dict() for item in results],
        "first_difference": None if first is None else first.to_dict(),
    }


def _print(
    backends: Sequence[str], results: Sequence[LayerResults], first: FirstDifference | None
) -> None:
    reference, *others = backends
    rows = [
        (
            item.layer,
            f"{item.rows} x {item.columns}",
            item.format,
            len(item.tokens),
            item.pairs[0].outputs,
            # The first pairs are those of the first back end, in the order of the others.
            *(pair.differences for pair in item.pairs[: len(others)]),
        )
        for item in results
    ]
    columns = ("layer", "shape", "format", "tokens", "outputs")
    print_table(f"Outputs that differ from those of {reference}", (*columns, *others), rows)
    if first is not None:
        _print_pairs(results)
    times = ", ".join(
        f"{name} {sum(item.seconds[name] for item in results):.2f} s" for name in backends
    )
    outputs = sum(item.pairs[0].outputs for item in results)
    total = sum(item.differences for item in results)
    verdict = "0 differences" if first is None else f"{total:,} DIFFERENCES"
    print_line(f"{outputs:,} outputs of {len(backends)} back ends, {verdict}; {times}")
    if first is not None:
        _print_first(first)


def _print_pairs(results: Sequence[LayerResults]) -> None:
    rows = [
        (
            item.layer,
            " and ".join(pair.backends),
            pair.differences,
            f"token {pair.first[0]}, row {pair.first[1]}",
            " and ".join(pair.bits.values()),
        )
        for item in results
        for pair in item.pairs
        if pair.first is not None
    ]
    print_table("Pairs that differ", ("layer", "back ends", "outputs", "first", "values"), rows)


def _print_first(first: FirstDifference) -> None:
    bits = ", ".join(f"{name} {value}" for name, value in first.bits.items())
    print_line(
        f"First difference: layer {first.layer}, token {first.token} ({first.token_name}), "
        f"row {first.row}: {bits}; golden {first.golden}"
    )
    found = first.intermediate
    if found is None:
        print_line(f"First intermediate that differs: not found; {first.problem}")
    elif found.kind == "context":
        print_line(
            "First intermediate that differs: none; with this token and this row alone the two "
            "agree, so the other tokens or rows of the layer have to do with it"
        )
    else:
        values = ", ".join(
            f"{name} {'not finite' if value is None else value}"
            for name, value in found.observed.items()
        )
        signs = " (with each activation's sign only)" if found.signs else ""
        signs += " (rounded to the output type)" if found.rounded else ""
        print_line(
            f"First intermediate that differs: {found.kind} {found.where}{signs}: {values}; "
            f"golden {found.expected}"
        )
