"""Bitstreams of boards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..fpga import Board
from ..fpga.platform_top import pinned_top
from ..sim import ToolError
from .backend import Progress
from .board_verilog import generate_board
from .synth import find_target, pack_bitstream, place_and_route, synthesise
from .synth.tools import tool_version
from .synth.yosys import YOSYS

__all__ = ["BoardBitstream", "build_bitstream"]

SUFFIXES = {"ecp5": "bit", "ice40": "bin", "gowin": "fs"}


@dataclass(frozen=True, kw_only=True)
class BoardBitstream:
    """A bitstream and what is known of it.

    Parameters
    ----------
    content : bytes
        What the board loads.
    suffix : str
        How its file's name ends.
    fmax_mhz : float
        Highest frequency of the clock.
    clock_mhz : float
        The board's.
    utilisation : mapping of str to pair of int
        Cells used and there, by nextpnr's kinds.
    """

    content: bytes
    suffix: str
    fmax_mhz: float
    clock_mhz: float
    utilisation: Mapping[str, tuple[int, int]]


def build_bitstream(
    board: Board,
    *,
    seed: int = 1,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> BoardBitstream:
    """Build a board's bitstream.

    Parameters
    ----------
    board : Board
        Which one.
    seed : int
        What the placer's choices begin with.
    progress : callable, optional
        Told in a few words what is being done, and how much of it from 0 to 1.
    cache : Path, optional
        Folder of the cache; the user's by default.

    Raises
    ------
    :exc:`ToolError`
        If a tool is missing or fails, or the clock's frequency is not met.
    """
    tell = progress or (lambda *_: None)
    target = find_target(board.target)
    for program in (YOSYS, *target.programs):
        tool_version(program)  # before anything that takes long
    tell("generating Verilog", 0.0)
    design = generate_board(board)
    pinned = pinned_top(board, design.top)
    clock_mhz = board.clock / 1e6
    netlist = synthesise(
        f"{design.verilog}\n{pinned.verilog}",
        pinned.name,
        target,
        dsp=True,
        pads=True,
        options=board.synthesis,
        progress=tell,
        cache=cache,
    )
    placement = place_and_route(
        netlist,
        target,
        seed=seed,
        frequency_mhz=clock_mhz,
        constraints=pinned.constraints,
        out_of_context=False,
        progress=tell,
        cache=cache,
    )
    if placement.fmax_mhz < clock_mhz:
        raise ToolError(
            f"Only {placement.fmax_mhz:g} MHz of the {clock_mhz:g} MHz of {board.name!r} are met; "
            "try another --seed, or a smaller engine"
        )
    return BoardBitstream(
        content=pack_bitstream(placement, target),
        suffix=SUFFIXES[target.family],
        fmax_mhz=placement.fmax_mhz,
        clock_mhz=clock_mhz,
        utilisation=placement.utilisation,
    )
