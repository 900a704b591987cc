"""Finding the FPGA tools that pip installs, and running them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ...sim import ToolError

__all__ = ["run_program", "tool_version"]

_WATCH_SECONDS = 0.5


def run_program(
    program: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    log: str,
    watch: Callable[[str], object] | None = None,
) -> None:
    """Run a program of a Python package in a process of its own.

    Parameters
    ----------
    program : str
        Its name, as the package has it among its console scripts.
    arguments : sequence of str
        What it is given. Files are named relative to ``folder``.
    folder : Path
        Where it runs.
    log : str
        File that it writes what it does into; the reason is taken from there if it fails.
    watch : callable, optional
        Given each piece of text that is added to the log.

    Raises
    ------
    :exc:`ToolError`
        If it is not installed, or fails.
    """
    entry = _entry_point(program)
    start = (
        f"import sys; from {entry.module} import {entry.attr} as start; "
        f"sys.argv[0] = {program!r}; sys.exit(start())"
    )
    printed = folder / f"{log}.printed"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", start, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # The working folder must not stand in for a package.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        try:
            _wait(process, folder / log, watch)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        lines = printed.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        reason = _reason(folder / log) or _reason(printed) or " ".join(last.split())
        raise ToolError(f"{program} failed: {reason or f'status {process.returncode}'}")


def tool_version(program: str) -> str:
    """Return the version of the Python package that a program comes from.

    Raises
    ------
    :exc:`ToolError`
        If it is not installed.
    """
    distribution = _entry_point(program).dist
    return distribution.version if distribution else "unknown"


def _entry_point(program: str) -> EntryPoint:
    found = list(entry_points(group="console_scripts", name=program))
    if not found:
        raise ToolError(f"{program} was not found; install it with: pip install 'lutra[fpga]'")
    return found[0]


def _wait(
    process: subprocess.Popen[bytes], log: Path, watch: Callable[[str], object] | None
) -> None:
    """Wait for a process, and hand on what it logs."""
    seen = 0
    while process.poll() is None:
        time.sleep(_WATCH_SECONDS)
        if watch is not None and log.exists():
            with log.open("rb") as file:
                file.seek(seen)
                added = file.read()
            seen += len(added)
            if added:
                watch(added.decode(errors="replace"))


def _reason(log: Path) -> str:
    """Return the last errors that a log tells of, in one line."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    # The last one alone may say no more than that something failed.
    errors = re.findall(r"\b(?:ERROR|Error): (.*)", text)[-2:]
    return "; ".join(" ".join(error.split()).removesuffix(".") for error in errors)
