"""What commands write: tables, lines and JSON on standard output, progress on standard error."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .backend import Progress as ProgressCall

__all__ = ["number", "print_json", "print_line", "print_table", "progress_bar", "weights_bar"]


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
        TextColumn("{task.description}", markup=False),
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


@contextmanager
def weights_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on standard error while layers are worked off, if that is a terminal.

    Beside the bar are the weights a second and the time that is left.

    Yields
    ------
    callable
        Takes the layer in work, the weights done and all of them.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda layer, done, total: bar.update(
            task, description=layer, completed=done, total=max(total, 1)
        )


class _Rate(ProgressColumn):
    """Weights a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, in millions."""
        if not task.speed:
            return Text("")
        return Text(f"{task.speed / 1e6:.1f} M weights/s")


def print_json(data: Any) -> None:
    """Print one JSON object on standard output."""
    _write(json.dumps(data, indent=2) + "\n")


def print_line(line: str) -> None:
    """Print one line on standard output."""
    _write(f"{line}\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on standard output; columns of numbers are aligned to the right."""
    # As Text, or rich would take brackets in names for its own.
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    # A pipe has no width: rich would cut lines at 80 columns there.
    console = Console()
    console = Console(width=None if console.is_terminal else 200)
    with console.capture() as rendered:
        console.print(table)
    _write(rendered.get())


def number(value: float | None, digits: int = 3, unit: str = "") -> str:
    """Format a figure, or say that there is none."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def _write(text: str) -> None:
    """Write on standard output; a reader that has seen enough, such as head, is no error."""
    if sys.stdout is None:  # closed by whoever started this
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_number(value: Any) -> bool:
    return str(value)[:1] in "0123456789-+" and str(value) != ""
