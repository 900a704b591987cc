"""What commands share on the terminal: tables and progress on standard error, JSON on output."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .backends import Progress as ProgressCall

__all__ = ["number", "print_json", "print_table", "progress_bar"]


@contextmanager
def progress_bar() -> Iterator[ProgressCall]:
    """Show a bar on standard error while work goes on, if that is a terminal.

    Yields
    ------
    callable
        Takes a few words and the share done, 0 to 1.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=1.0)
        yield lambda words, share: bar.update(task, description=words, completed=share)


def print_json(data: Any) -> None:
    """Print one JSON object on standard output."""
    json.dump(data, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on standard output; columns of numbers are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    # A pipe has no width: rich would cut lines at 80 columns there.
    console = Console()
    Console(width=None if console.is_terminal else 200).print(table)


def number(value: float | None, digits: int = 3, unit: str = "") -> str:
    """Format a figure, or say that there is none."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def _is_number(value: Any) -> bool:
    return str(value)[:1] in "0123456789-+" and str(value) != ""
