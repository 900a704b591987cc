"""Everything that can compute a layer, by name."""

from collections.abc import Callable
from functools import partial

from .backend import Backend, Progress
from .backend_amaranth import AmaranthBackend
from .backend_icarus import IcarusBackend
from .backend_netlist import NetlistBackend
from .backend_numpy import NumpyBackend
from .backend_torch import TorchBackend
from .backend_triton import TritonBackend
from .backend_verilator import VerilatorBackend
from .config import EngineConfig

__all__ = ["BACKENDS", "make_backend"]

BACKENDS: dict[str, Callable[[EngineConfig, Progress], Backend]] = {
    "verilator": VerilatorBackend,
    "icarus": IcarusBackend,
    "amaranth": AmaranthBackend,
    "numpy": NumpyBackend,
    "torch": TorchBackend,
    "triton": TritonBackend,
    "netlist": partial(NetlistBackend, target="ecp5-85k"),
    "netlist-xc7": partial(NetlistBackend, target="xc7"),
}


def make_backend(name: str, config: EngineConfig, progress: Progress | None = None) -> Backend:
    """Make a back end by name.

    Raises
    ------
    :exc:`ValueError`
        If there is none of that name.
    :exc:`ToolError`
        If a program or package that it needs is missing or fails.
    """
    if name not in BACKENDS:
        raise ValueError(f"Unknown back end {name!r}; known back ends: {', '.join(BACKENDS)}")
    return BACKENDS[name](config, progress or (lambda *_: None))
