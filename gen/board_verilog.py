# amaranth: UnusedElaboratable=no
"""A board's top level as Verilog, its engine included."""

from dataclasses import dataclass

from ..fpga import Board, BoardTop, board_identity
from ..fpga.word_memory import WordMemoryInstance, word_memory_verilog
from ..hdl import Blackbox, Engine
from .config import EngineConfig, load_config
from .verilog import convert, generate_verilog

__all__ = ["BoardVerilog", "board_config", "generate_board", "identity_of"]


@dataclass(frozen=True)
class BoardVerilog:
    """A board's modules.

    Parameters
    ----------
    verilog : str
        Text of all modules.
    top : str
        The module with the ports ``clk``, ``rst``, ``rx``, ``tx``, ``running`` and ``error``.
    divisor : int
        Clock cycles of a bit on the serial line.
    """

    verilog: str
    top: str
    divisor: int


def board_config(board: Board) -> EngineConfig:
    """Return the configuration of a board's engine."""
    return load_config(str(board.engine_file))


def identity_of(board: Board) -> bytes:
    """Return the hash by which a host knows the board's bitstream."""
    return board_identity(board_config(board).to_dict(), board.memory)


def generate_board(board: Board, *, divisor: int | None = None) -> BoardVerilog:
    """Generate everything of a board but what knows its pins.

    Parameters
    ----------
    board : Board
        The board.
    divisor : int, optional
        Clock cycles of a bit, for simulations that need not wait for a real line.

    Raises
    ------
    :exc:`ToolError`
        If Yosys fails.
    """
    config = board_config(board)
    divisor = divisor or board.divisor
    name = f"{config.name}_board"
    engine = Engine(parameters=config.parameters)
    memories = []

    def make_memory(which: str, width: int, depth: int) -> WordMemoryInstance:
        module = f"{name}_{which}"
        component = WordMemoryInstance(width=width, depth=depth, module=module)
        memories.append(word_memory_verilog(component, module=module))
        return component

    top = BoardTop(
        parameters=config.parameters,
        memory=board.memory,
        divisor=divisor,
        identity=identity_of(board),
        make_engine=lambda: Blackbox(engine.signature, module=config.name),
        make_memory=make_memory,
    )
    text = "\n".join([generate_verilog(config), convert(top, name), *memories])
    return BoardVerilog(text, name, divisor)
