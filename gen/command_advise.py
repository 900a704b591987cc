"""``lutra advise``: what a scaling law says of floating-point formats to train in."""

import math
from typing import Any

import click

from ..formats import CATALOG
from ..quant.scaling_law import CHANNEL_BLOCK_LOG2, LAW_LIMITS, Layout, ScalingLaw
from .console import number, print_json, print_line, print_table
from .options import JSON_OPTION, ExampleCommand

__all__ = ["advise_command"]

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_WIDTHS = (*range(3, 9), 16)
# What the law was fitted to and compared with, in parameters.
_FITTED, _COMPARED = (41e6, 679e6), 70e9


class _Count(click.ParamType):
    name = "count"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return a number, which may have a unit."""
        if isinstance(value, float):
            return value
        unit = value[-1:].upper() if value[-1:].isalpha() else ""
        try:
            count = float(value[: len(value) - len(unit)]) * _UNITS[unit]
        except (KeyError, ValueError):
            count = math.nan
        if not (math.isfinite(count) and count >= 1):
            self.fail(f"{value!r} must be a number such as 7e9, 7B, 300M or 2T", param, ctx)
        return count


class _Block(click.ParamType):
    name = "block"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return log2 of the block size."""
        if isinstance(value, float):
            return value
        if value == "channel":
            return CHANNEL_BLOCK_LOG2
        if not value.isascii() or not value.isdecimal() or int(value) < 2:
            self.fail(f"{value!r} must be weights, at least 2, or 'channel'", param, ctx)
        return math.log2(int(value))


@click.command(
    cls=ExampleCommand, name="advise", example="lutra advise --parameters 7B --tokens 2T --bits 4"
)
@click.option(
    "--parameters", type=_Count(), required=True, metavar="N", help="Of the model, such as 7B."
)
@click.option(
    "--tokens", type=_Count(), required=True, metavar="D", help="To train on, such as 2T."
)
@click.option(
    "--bits",
    type=click.IntRange(3, 16),
    metavar="P",
    help="Show all layouts of that width. Default: the best of several widths.",
)
@click.option(
    "--block",
    "block_log2",
    type=_Block(),
    default="128",
    show_default=True,
    metavar="B",
    help="Weights of one scale, or 'channel'.",
)
@JSON_OPTION
def advise_command(
    parameters: float, tokens: float, bits: int | None, block_log2: float, as_json: bool
) -> None:
    """Predict the loss of training in floating-point formats, by a published scaling law.

    For each layout of exponent and mantissa bits: what it adds to the loss of training in full
    precision, and the critical data size, the tokens after which more of them make the loss worse.
    The law has limits, which are printed with it.
    """
    law = ScalingLaw(parameters=parameters, block_log2=block_log2)
    layouts = [law.layouts(width)[0] for width in _WIDTHS] if bits is None else law.layouts(bits)
    rows = [_row(law, layout, tokens) for layout in layouts]
    limits = [*LAW_LIMITS, *_outside(parameters)]
    if as_json:
        print_json({
            "parameters": parameters,
            "tokens": tokens,
            "block": 2**block_log2,
            "float_loss": law.float_loss(tokens),
            "layouts": rows,
            "limits": limits,
        })
        return
    columns = ("layout", "bits", "loss", "of that by quantising", "critical tokens", "format")
    table = [
        (
            row["layout"],
            row["bits"],
            number(row["loss"], 4),
            number(row["cost"], 4),
            _in_units(row["critical_tokens"]),
            row["format"] or "-",
        )
        for row in rows
    ]
    title = f"{_in_units(parameters)} parameters, {_in_units(tokens)} tokens"
    print_table(f"{title}: loss {law.float_loss(tokens):.4f} in full precision", columns, table)
    for limit in limits:
        print_line(f"* {limit}")


def _row(law: ScalingLaw, layout: Layout, tokens: float) -> dict[str, Any]:
    name = f"float{layout.bits}_{str(layout).lower()}"
    return {
        "layout": str(layout),
        "bits": layout.bits,
        "exponent_bits": layout.exponent,
        "mantissa_bits": layout.mantissa,
        "loss": law.loss(layout, tokens),
        "cost": law.cost(layout, tokens),
        "critical_tokens": law.critical_tokens(layout),
        "beyond_critical": tokens > law.critical_tokens(layout),
        "format": name if name in CATALOG else None,
    }


def _outside(parameters: float) -> list[str]:
    if _FITTED[0] <= parameters <= _FITTED[1]:
        return []
    if _FITTED[1] < parameters <= _COMPARED:
        return [f"{_in_units(parameters)} parameters are beyond the models that it was fitted to."]
    return [f"{_in_units(parameters)} parameters are outside all that it was compared with."]


def _in_units(count: float) -> str:
    unit, size = max(
        ((unit, size) for unit, size in _UNITS.items() if size <= count), key=lambda item: item[1]
    )
    return f"{count / size:.4g}{unit}"
