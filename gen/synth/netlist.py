"""A mapped netlist, as Yosys leaves it and the cache keeps it."""

import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .cells import Cells, count_cells
from .targets import Target

__all__ = ["Block", "Netlist"]

JSON_NAME = "netlist.json"
VERILOG_NAME = "netlist.v"
SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class Block:
    """An instance of a module, or several that differ in their number only.

    Parameters
    ----------
    name : str
        Name of the instance; the top's is that of its module.
    module : str
        Its module.
    count : int
        How many there are of it in the block above.
    cells : Cells
        What one of them occupies, with everything inside.
    blocks : tuple of Block
        What it consists of; its own cells are the rest.
    """

    name: str
    module: str
    count: int
    cells: Cells
    blocks: tuple["Block", ...]


@dataclass(frozen=True, eq=False)
class Netlist:
    """Cells of a device and how they are connected, in a file of the cache.

    Parameters
    ----------
    file : Path
        A ZIP file with the netlist as JSON and as Verilog, and what is known about it.
    top : str
        Name of the top module.
    target : Target
        Whose cells they are.
    cached : bool
        Whether it was there already.
    """

    file: Path
    top: str
    target: Target
    cached: bool

    @property
    def cells(self) -> Cells:
        """What the whole design occupies: every instance counted."""
        return self.tree.cells

    @property
    def seconds(self) -> float:
        """How long Yosys took when it was made."""
        return self._summary["seconds"]

    @property
    def json(self) -> str:
        """The netlist as Yosys' JSON; modules that were kept are in it once."""
        return self._read(JSON_NAME)

    @property
    def verilog(self) -> str:
        """The netlist as Verilog, instances of the device's cells in the modules that were kept."""
        return self._read(VERILOG_NAME)

    @property
    def types(self) -> frozenset[str]:
        """Kinds of the device's cells that are in it."""
        modules = self._summary["modules"].values()
        return frozenset(
            name for module in modules for name in module["types"] if not name.startswith("$")
        )

    @cached_property
    def tree(self) -> Block:
        """The modules that were kept, as a tree."""
        return self._block(self.top, self.top, 1)

    def _block(self, name: str, module: str, count: int) -> Block:
        entry = self._summary["modules"][module]
        cells = count_cells(entry["types"], self.target.family)
        blocks = tuple(
            self._block(first, inner, len(names))
            for (inner, first), names in _alike(entry["instances"]).items()
        )
        for block in blocks:
            cells += block.cells * block.count
        return Block(name, module, count, cells, blocks)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return json.loads(self._read(SUMMARY_NAME))

    def _read(self, name: str) -> str:
        with zipfile.ZipFile(self.file) as archive:
            return archive.read(name).decode()


def _alike(instances: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """Group instances of the same module."""
    groups: dict[str, list[str]] = {}
    for name, module in instances.items():
        groups.setdefault(module, []).append(name)
    return {(module, names[0]): names for module, names in groups.items()}


def summarise(netlist: Mapping[str, Any], top: str, seconds: float) -> dict[str, Any]:
    """Return what is counted of a netlist: cells by type and instances, module by module."""
    modules = {}
    waiting = [top]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        types: Counter[str] = Counter()
        instances = {}
        for instance, cell in netlist["modules"][name].get("cells", {}).items():
            inner = cell["type"]
            if _is_design(netlist["modules"].get(inner)):
                instances[instance] = inner
                waiting.append(inner)
            else:
                types[inner] += 1
        modules[name] = {"types": dict(sorted(types.items())), "instances": instances}
    return {"seconds": round(seconds, 2), "modules": modules}


def _is_design(module: Mapping[str, Any] | None) -> bool:
    """Whether a module of a netlist is the design's, not a cell of the device."""
    if module is None:
        return False
    attributes = module.get("attributes", {})
    return "blackbox" not in attributes and "whitebox" not in attributes


def pack_netlist(folder: Path, file: Path, summary: Mapping[str, Any], log: str) -> None:
    """Put a netlist's files into one."""
    (folder / SUMMARY_NAME).write_text(json.dumps(summary))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for name in (JSON_NAME, VERILOG_NAME, SUMMARY_NAME, log):
            archive.write(folder / name, name)
