"""Opening the serial port that a board is on."""

import contextlib
from typing import TYPE_CHECKING

import click

from ..sim import ToolError

if TYPE_CHECKING:
    from serial import Serial

__all__ = ["open_port"]

_READ_SECONDS = 0.01


def open_port(path: str, baud: int) -> "Serial":
    """Open a serial port for a board.

    Parameters
    ----------
    path : str
        Such as ``/dev/ttyUSB0``.
    baud : int
        Bits a second.

    Raises
    ------
    :exc:`ToolError`
        If pyserial is not installed.
    :exc:`click.BadParameter`
        If there is no such port, or it cannot be opened.
    """
    try:
        import serial
        from serial.tools import list_ports
    except ImportError as error:
        raise ToolError(
            "pyserial was not found; install it with: pip install 'lutra[fpga]'"
        ) from error
    try:
        port = serial.Serial(path, baud, timeout=_READ_SECONDS, exclusive=True)
    except (OSError, ValueError) as error:
        there = ", ".join(sorted(item.device for item in list_ports.comports())) or "none"
        reason = getattr(error, "strerror", None) or str(error)
        raise click.BadParameter(
            f"{path} cannot be opened ({reason}); serial ports here: {there}",
            param_hint="'--port'",
        ) from error
    # An FTDI chip keeps bytes for 16 ms otherwise; other ports, or systems, have no such mode.
    with contextlib.suppress(AttributeError, NotImplementedError, OSError, ValueError):
        port.set_low_latency_mode(True)
    return port
