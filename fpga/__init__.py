"""Boards: the host link, what a board has around an engine, and a simulated one."""

from .board import BOARDS, Board, find_board
from .board_memory import BoardMemory
from .board_top import BoardTop
from .identity import board_identity
from .link import Link, LinkError
from .simulated_board import Fault, SimulatedBoard

__all__ = [
    "BOARDS",
    "Board",
    "BoardMemory",
    "BoardTop",
    "Fault",
    "Link",
    "LinkError",
    "SimulatedBoard",
    "board_identity",
    "find_board",
]
