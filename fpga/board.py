"""Boards: what is known of each, read from its folder."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .board_memory import BoardMemory

__all__ = ["BOARDS", "Board", "find_board"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board that can carry an engine; the files of its folder say everything about it.

    Parameters
    ----------
    name : str
        Name of its folder, by which commands know it.
    title, device : str
        Names for people: of the board and of its FPGA.
    target : str
        Name of that FPGA for synthesis.
    clock : int
        Frequency of the oscillator, which clocks everything, in Hz.
    baud : int
        Bits a second on the serial line; divides the clock to at least 4.
    memory : BoardMemory
        Words of each memory.
    platform : str
        Class of amaranth-boards as ``module:name``; empty where there is none.
    constraints : str
        File with the places of pins, for boards without such a class.
    synthesis : tuple of str
        Options for Yosys' ``synth_*`` command, beside those of the target.

    Raises
    ------
    :exc:`ValueError`
        If the baud rate does not divide the clock to at least 4, or pins are in no place or in two.
    """

    name: str
    title: str
    device: str
    target: str
    clock: int
    baud: int
    memory: BoardMemory
    platform: str = ""
    constraints: str = ""
    synthesis: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clock % self.baud or self.clock // self.baud < 4:
            raise ValueError(
                f"baud must divide the clock of {self.clock} Hz to at least 4, not {self.baud!r}"
            )
        if bool(self.platform) == bool(self.constraints):
            raise ValueError(f"Board {self.name!r} must name either a platform or constraints")

    @property
    def divisor(self) -> int:
        """Clock cycles of a bit on the serial line."""
        return self.clock // self.baud

    @cached_property
    def folder(self) -> Path:
        """Where its files are."""
        return _FOLDER / self.name

    @property
    def constraints_file(self) -> Path:
        """Places of pins, where no class of amaranth-boards knows them."""
        return self.folder / self.constraints

    @property
    def engine_file(self) -> Path:
        """Configuration of its engine."""
        return self.folder / "engine.toml"


def _read(path: Path) -> Board:
    facts = tomllib.loads(path.read_text(encoding="utf-8"))
    memory = BoardMemory(**facts.pop("memory"))
    synthesis = tuple(facts.pop("synthesis", ()))
    return Board(name=path.parent.name, memory=memory, synthesis=synthesis, **facts)


BOARDS = {path.parent.name: _read(path) for path in sorted(_FOLDER.glob("*/board.toml"))}


def find_board(name: str) -> Board:
    """Return a board by name.

    Raises
    ------
    :exc:`ValueError`
        If there is none of that name.
    """
    if name not in BOARDS:
        raise ValueError(f"Unknown board {name!r}; known boards: {', '.join(BOARDS)}")
    return BOARDS[name]
