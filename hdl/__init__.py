"""Amaranth components: the engine and its parts, one public component a file."""

from .blackbox import Blackbox
from .core_options import CORE_OPTIONS, CoreOptions, LutOptions, MacOptions, TermOptions
from .engine import Engine
from .lane import Lane, LaneSchedule
from .parameters import EngineParameters
from .status import Error, Status

__all__ = [
    "CORE_OPTIONS",
    "Blackbox",
    "CoreOptions",
    "Engine",
    "EngineParameters",
    "Error",
    "Lane",
    "LaneSchedule",
    "LutOptions",
    "MacOptions",
    "Status",
    "TermOptions",
]
