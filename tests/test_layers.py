"""Imports go one way: formats <- {quant, sim, hdl, gpu} <- gen, and {sim, hdl} <- fpga <- gen."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a package may import, beside itself.
LAYERS = {
    "formats": set(),
    "quant": {"formats"},
    "sim": {"formats"},
    "hdl": {"formats"},
    "gpu": {"formats"},
    "fpga": {"formats", "sim", "hdl"},
    "gen": {"formats", "quant", "sim", "hdl", "gpu", "fpga"},
}
# Files of torch.save cannot be had without it; both import it where they need it.
TORCH_FILES = ("quant/imports/torch_file.py", "sim/more_sample_checkpoints.py")
FILES = sorted(path for package in LAYERS for path in (ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every import as (level, dotted name); what comes from a module counts as its part."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = [node.module] if node.module else []
            yield from ((node.level, ".".join([*stem, alias.name])) for alias in node.names)


def may_import(top: str, path: Path) -> bool:
    """Whether a file of a package may import a distribution from outside."""
    package = path.parts[0]
    if top in ("torch", "triton"):
        if top == "torch" and path.as_posix() in TORCH_FILES:
            return True
        return package == "gpu" or path.parts[:2] == ("quant", "learned")
    if top in ("cocotb", "cocotb_tools", "cocotbext"):
        return package == "sim" and "cocotb" in path.stem
    if top == "amaranth":
        return package in ("sim", "hdl", "fpga", "gen")
    return package != "formats" or top == "numpy" or top in sys.stdlib_module_names


def faults(source: str, path: Path) -> list[str]:
    """Return the imports of a file, its path relative to the root, that break the order."""
    package, found = path.parts[0], []
    for level, name in imports(ast.parse(source)):
        parts = name.split(".")
        if level == 0:
            if parts[0] == "lutra" or parts[0] in LAYERS:
                found.append(f"{path} imports {name} by its absolute name")
            elif not may_import(parts[0], path):
                found.append(f"{path} may not import {parts[0]}")
            continue
        # The file's package, with one folder taken off for every dot beyond the first.
        target = [*path.parts[: len(path.parts) - level], *parts]
        above = level > len(path.parts)
        if above or (target[0] != package and target[0] not in LAYERS[package]):
            found.append(f"{path} may not import {target[0]}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    assert not faults(path.read_text(encoding="utf-8"), path.relative_to(ROOT))


def test_files_are_found():
    packages = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert packages == LAYERS.keys()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("formats/pack.py", "from ..hdl import Lane"),
        ("formats/pack.py", "import ml_dtypes"),
        ("hdl/lane.py", "from ..sim.golden import GoldenModel"),
        ("hdl/lane.py", "from .. import sim"),
        ("hdl/lane.py", "def late():\n    from ..sim import GoldenModel"),
        ("sim/golden.py", "from ..hdl.status import Error"),
        ("quant/absmax.py", "from ..sim import GoldenModel"),
        ("quant/absmax.py", "import amaranth"),
        ("gen/cli.py", "import lutra.formats"),
        ("gen/cli.py", "from lutra.formats import pack"),
        ("gen/cli.py", "import formats"),
        ("gen/cli.py", "import torch"),
        ("gen/deep/cli.py", "from ....formats import pack"),
        ("hdl/deep/lane.py", "from ...gen import PRESETS"),
        ("fpga/link.py", "from ..gen import load_config"),
        ("hdl/engine.py", "from ..fpga.uart import UartReceiver"),
        ("hdl/lane.py", "import cocotb"),
        ("sim/handshake.py", "from cocotb.triggers import RisingEdge"),
        ("sim/golden.py", "import triton.language as tl"),
        ("quant/gptq.py", "import torch"),
        ("quant/imports/gguf.py", "import torch"),
        ("quant/imports/torch_file.py", "import triton"),
    ],
)
def test_planted_faults_are_found(path, source):
    assert len(faults(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("formats/pack.py", "import numpy.typing as npt\nfrom .layout import Fields\nimport zlib"),
        ("hdl/lane.py", "from ..formats.layout import Fields\nfrom . import status"),
        ("hdl/deep/lane.py", "from ...formats import pack\nfrom .. import status"),
        ("gen/cli.py", "from ..hdl import Lane\nfrom .. import sim\nimport amaranth"),
        ("sim/cocotb_driver.py", "import cocotb\nfrom cocotb.triggers import RisingEdge"),
        ("fpga/runner.py", "from ..hdl import Engine\nfrom ..sim import ToolError"),
        ("quant/learned/rounding.py", "import torch\nfrom ...formats import Family"),
        ("gpu/kernels.py", "import triton\nimport torch\nfrom ..formats import pack"),
    ],
)
def test_what_is_allowed_passes(path, source):
    assert not faults(source, Path(path))
