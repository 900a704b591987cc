"""A board's top level between its pins, which amaranth-boards knows."""

import importlib
import re
from dataclasses import dataclass
from typing import Any

from amaranth import ClockSignal, Elaboratable, Instance, Module, ResetSignal
from amaranth.lib import io

from ..sim import ToolError
from .board import Board

__all__ = ["PinnedTop", "pinned_top"]


@dataclass(frozen=True)
class PinnedTop:
    """What stands between a board's module and its pins.

    Parameters
    ----------
    verilog : str
        Text of a module that contains the board's.
    name : str
        Its name.
    constraints : str
        Places of its pins and frequency of its clock, as nextpnr reads them.
    """

    verilog: str
    name: str
    constraints: str


class _PlatformTop(Elaboratable):
    """The board's module on the pins ``uart`` and the first two of ``led``."""

    def __init__(self, module: str) -> None:
        self._module = module

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lines = {line.name: "-" for line in platform.lookup("uart", 0).ios}
        uart = platform.request("uart", 0, dir=lines)
        m.submodules.rx = rx = io.Buffer(io.Direction.Input, uart.rx)
        m.submodules.tx = tx = io.Buffer(io.Direction.Output, uart.tx)
        m.submodules.led_0 = running = io.Buffer(
            io.Direction.Output, platform.request("led", 0, dir="-")
        )
        m.submodules.led_1 = error = io.Buffer(
            io.Direction.Output, platform.request("led", 1, dir="-")
        )
        m.submodules.board = Instance(
            self._module,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(allow_reset_less=True),
            i_rx=rx.i,
            o_tx=tx.o,
            o_running=running.o,
            o_error=error.o,
        )
        return m


def pinned_top(board: Board, module: str) -> PinnedTop:
    """Put a board's module between its pins.

    Parameters
    ----------
    board : Board
        The board.
    module : str
        Name of its top level's module.

    Raises
    ------
    :exc:`ToolError`
        If amaranth-boards is not installed.
    """
    name = f"{module}_pins"
    if not board.platform:
        return PinnedTop(_plain_top(module, name), name, board.constraints_file.read_text())
    where, _, which = board.platform.partition(":")
    try:
        platform = getattr(importlib.import_module(where), which)()
    except ModuleNotFoundError as error:
        raise ToolError(
            "amaranth-boards was not found; install it with: pip install 'lutra[fpga]'"
        ) from error
    plan = platform.prepare(_PlatformTop(module), name, debug_verilog=True)
    (constraints,) = (text for file, text in plan.files.items() if file.endswith((".lpf", ".pcf")))
    # Where each line comes from is of no use here, and differs from folder to folder.
    verilog = re.sub(r"\(\* src = [^*]* \*\)\s*", "", _text(plan.files[f"{name}.debug.v"]))
    return PinnedTop(verilog, name, _text(constraints))


def _plain_top(module: str, name: str) -> str:
    """Return a top level whose ports have the names of a constraints file's pins."""
    return f"""
module {name}(input clk, input rst, input rx, output tx, output running_n, output error_n);
  wire running, error;
  assign running_n = ~running;
  assign error_n = ~error;
  {module} board(.clk(clk), .rst(rst), .rx(rx), .tx(tx), .running(running), .error(error));
endmodule
"""


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode()
