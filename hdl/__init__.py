"""Amaranth components: the engines and their parts, one public component a file."""

from .blackbox import Blackbox
from .engine import LutEngine
from .lane import Lane, LaneSchedule
from .parameters import LutParameters
from .status import Error, Status

__all__ = ["Blackbox", "Error", "Lane", "LaneSchedule", "LutEngine", "LutParameters", "Status"]
