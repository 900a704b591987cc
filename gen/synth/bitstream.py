"""Bitstreams: what a device loads."""

import tempfile
from pathlib import Path

from .place import Placement
from .targets import Target
from .tools import run_program

__all__ = ["pack_bitstream"]

_INPUT = "design.config"
_OUTPUT = "design.bit"


def pack_bitstream(placement: Placement, target: Target) -> bytes:
    """Pack a placed and routed design.

    Parameters
    ----------
    placement : Placement
        What :func:`place_and_route` made for the same target, not out of context.
    target : Target
        The device.

    Returns
    -------
    bytes
        Content of a ``.bit`` (ECP5), ``.bin`` (iCE40) or ``.fs`` (Gowin) file.

    Raises
    ------
    :exc:`ValueError`
        If the placement was made out of context, or for another target.
    :exc:`ToolError`
        If the packer is missing or fails.
    """
    if placement.target != target.name:
        raise ValueError(f"The placement is of {placement.target}, not {target.name}")
    if placement.configuration is None:
        raise ValueError("A bitstream needs a design that was placed with out_of_context=False")
    if target.family == "gowin":
        # apycula's name of the device is the one that nextpnr is told.
        device = next(item for item in target.nextpnr if item.startswith("family="))
        arguments = ["-d", device.removeprefix("family="), "-o", _OUTPUT, _INPUT]
    else:
        arguments = ["--compress"] * (target.family == "ecp5") + [_INPUT, _OUTPUT]
    with tempfile.TemporaryDirectory(prefix="lutra-") as name:
        folder = Path(name)
        (folder / _INPUT).write_text(placement.configuration)
        run_program(target.programs[1], arguments, folder=folder, log="pack.log")
        return (folder / _OUTPUT).read_bytes()
