"""Make ``docs/conformance.csv`` and ``docs/conformance.md``: run ``python docs/conformance.py``.

With ``--run`` the tests of ``tests/conformance`` are run first, all of them, and what they compared
becomes the CSV file; without it the page is made from the file as it is.
"""

import csv
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

__all__ = ["CELLS", "PAGE", "Cell", "page", "read_cells"]

CELLS = Path(__file__).with_name("conformance.csv")
PAGE = Path(__file__).with_name("conformance.md")
_TESTS = Path(__file__).parents[1] / "tests" / "conformance"

_HEADING = """\
# Conformance

<!-- Made by docs/conformance.py from docs/conformance.csv. Edit neither by hand. -->

What was compared with the golden model, bit by bit: every number format, quantised by every method
that serves it, on every kind of engine as compiled RTL, and in PyTorch. The tests of
`tests/conformance` compare and write the table down; `python docs/conformance.py --run` repeats
that, which takes some twenty minutes on two cores. Layers are small, {shape}, with a
tail; larger ones, other numerics and the other back ends are the matter of `tests/hdl`, `tests/gen`
and `tests/gpu`.

{count:,} outputs were compared, {differing:,} differ.
"""

_TABLE = """\
## Formats and engines

Outputs compared, over all methods, and how many differ. Where an engine does not take a layer, the
notes below say why.
"""

_METHODS = """\
## Formats and quantisers

`x`: every engine that takes the layer, and PyTorch, returned the golden model's bits.
"""


class Cell(NamedTuple):
    """One comparison.

    Parameters
    ----------
    format, method, engine : str
        ``engine`` is a kind of engine, or ``torch``.
    outputs, differing : int
        Outputs compared, and those with other bits.
    note : str
        Why the engine does not take the layer; empty where it does.
    """

    format: str
    method: str
    engine: str
    outputs: int
    differing: int
    note: str


def read_cells() -> list[Cell]:
    """Read the CSV file."""
    with CELLS.open(encoding="utf-8", newline="") as file:
        return [
            Cell(name, method, engine, int(outputs), int(differing), note)
            for name, method, engine, outputs, differing, note in csv.reader(file)
        ]


def page(cells: list[Cell]) -> str:
    """Return the page's text."""
    parts = [
        _HEADING.format(
            shape="10 x 43 weights, 3 tokens",
            count=sum(cell.outputs for cell in cells),
            differing=sum(cell.differing for cell in cells),
        ),
        _TABLE,
        _by_engine(cells),
        _notes(cells),
        _METHODS,
        _by_method(cells),
    ]
    return "\n".join(part for part in parts if part)


def _by_engine(cells: list[Cell]) -> str:
    formats, engines = _names(cells, "format"), _names(cells, "engine")
    found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.format, cell.engine].append(cell)
    rows = [[f"`{name}`", *(_sum(found[name, engine]) for engine in engines)] for name in formats]
    return _table(["format", *(f"`{engine}`" for engine in engines)], rows)


def _sum(cells: list[Cell]) -> str:
    outputs = sum(cell.outputs for cell in cells)
    if not outputs:
        return "refused" if cells else "not run"
    differing = sum(cell.differing for cell in cells)
    return f"{outputs}, {differing} differ" + (" *" if any(cell.note for cell in cells) else "")


def _notes(cells: list[Cell]) -> str:
    reasons: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        if cell.note:
            reasons[cell.note].append(f"`{cell.format}` by `{cell.method}` on `{cell.engine}`")
    if not reasons:
        return ""
    lines = [f"- {note}: {', '.join(where)}\n" for note, where in sorted(reasons.items())]
    return "\\* Some layers were refused:\n\n" + "".join(lines)


def _by_method(cells: list[Cell]) -> str:
    formats, methods = _names(cells, "format"), _names(cells, "method")
    good = {(cell.format, cell.method): True for cell in cells if cell.outputs}
    for cell in cells:
        if cell.differing:
            good[cell.format, cell.method] = False
    marks = {True: "x", False: "differs", None: ""}
    rows = [
        [f"`{name}`", *(marks[good.get((name, method))] for method in methods)] for name in formats
    ]
    return _table(["format", *(f"`{method}`" for method in methods)], rows)


def _names(cells: list[Cell], field: str) -> list[str]:
    return list(dict.fromkeys(getattr(cell, field) for cell in cells))


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _run() -> None:
    """Run the tests and put what they compared into the order of the registries."""
    from lutra.formats import CATALOG
    from lutra.quant import METHODS

    CELLS.unlink(missing_ok=True)
    pytest = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal"]
    done = subprocess.run([*pytest, str(_TESTS), "--conformance", str(CELLS)], check=False)
    engines = ("lut", "term", "mac", "torch")
    cells = sorted(
        read_cells(),
        key=lambda cell: (
            list(CATALOG).index(cell.format),
            engines.index(cell.engine),
            list(METHODS).index(cell.method),
        ),
    )
    with CELLS.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(cells)
    if done.returncode:
        sys.exit(f"Some tests failed; {CELLS} has what they compared")


if __name__ == "__main__":
    if sys.argv[1:] == ["--run"]:
        _run()
    PAGE.write_text(page(read_cells()), encoding="utf-8")
