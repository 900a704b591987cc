"""Synthesis, place and route, and bitstreams."""

from .bitstream import pack_bitstream
from .capacity import TooLargeError, check_capacity
from .cells import Cells, count_cells
from .netlist import Block, Netlist
from .place import Placement, place_and_route
from .targets import TARGETS, Target, find_target
from .yosys import synthesise

__all__ = [
    "TARGETS",
    "Block",
    "Cells",
    "Netlist",
    "Placement",
    "Target",
    "TooLargeError",
    "check_capacity",
    "count_cells",
    "find_target",
    "pack_bitstream",
    "place_and_route",
    "synthesise",
]
