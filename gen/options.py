"""What commands share: the form of their help, their options and the values of these."""

from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from .config import EngineConfig, load_config

__all__ = [
    "GROUP_SIZE",
    "JSON_OPTION",
    "SETTINGS_OPTION",
    "SHAPE",
    "ExampleCommand",
    "configure",
    "refuse_options",
]


class ExampleCommand(click.Command):
    """A command whose help ends with its example, line breaks kept."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epilog = f"\b\nExample:\n  {example}"


class _GroupSize(click.ParamType):
    name = "group size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str | None:
        """Return a number of weights; None for whole rows; "auto" where that is the default."""
        if value == "auto" and param is not None and param.default == "auto":
            return value
        if value is None or isinstance(value, int) or value == "row":
            return None if value == "row" else value
        if not value.isascii() or not value.isdecimal() or int(value) < 1:
            self.fail(f"{value!r} must be a number of weights, at least 1, or 'row'", param, ctx)
        return int(value)


class _Shape(click.ParamType):
    name = "shape"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Return the two numbers of ``NxK``."""
        if isinstance(value, tuple):
            return value
        parts = value.lower().split("x")
        numbers = [int(part) for part in parts if part.isascii() and part.isdecimal()]
        if len(parts) != 2 or len(numbers) != 2 or 0 in numbers:
            self.fail(f"{value!r} must be rows x columns, such as 1024x1024", param, ctx)
        return numbers[0], numbers[1]


GROUP_SIZE = _GroupSize()
SHAPE = _Shape()

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
SETTINGS_OPTION = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting, such as stream.lanes=8 or stream.formats=int4,int8; repeatable.",
)


def configure(name_or_path: str, settings: Sequence[str]) -> EngineConfig:
    """Find a configuration and change what ``--set`` asks for.

    Raises
    ------
    :exc:`ConfigurationError`
        If there is none of that name, or the result cannot be built.
    """
    chosen = load_config(name_or_path)
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(
                f"{setting!r} must be NAME=VALUE, such as stream.lanes=8", param_hint="'--set'"
            )
        changes[name.strip()] = value.strip()
    return chosen.replace(changes) if changes else chosen


def refuse_options(context: click.Context, names: Sequence[str], instead: str) -> None:
    """Refuse options that would have no effect.

    Parameters
    ----------
    context : click.Context
        The command's.
    names : sequence of str
        Parameters that must not be given.
    instead : str
        Ends the sentence that begins with the option's name.

    Raises
    ------
    :exc:`click.UsageError`
        If one of them is given.
    """
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[0]} {instead}")
