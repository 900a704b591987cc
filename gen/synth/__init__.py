"""Synthesis, place and route, and bitstreams."""

from .bitstream import pack_bitstream
from .capacity import TooLargeError, check_capacity
from .cells import Cells, count_cells
from .engine import EngineSynthesis, config_hash, synthesise_engine, weight_bits_per_cycle
from .netlist import Block, Netlist
from .place import Placement, place_and_route
from .targets import TARGETS, Target, find_target
from .yosys import synthesise

__all__ = [
    "TARGETS",
    "Block",
    "Cells",
    "EngineSynthesis",
    "Netlist",
    "Placement",
    "Target",
    "TooLargeError",
    "check_capacity",
    "config_hash",
    "count_cells",
    "find_target",
    "pack_bitstream",
    "place_and_route",
    "synthesise",
    "synthesise_engine",
    "weight_bits_per_cycle",
]
