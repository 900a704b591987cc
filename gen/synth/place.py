"""Place and route by nextpnr: the frequency that a netlist achieves in a device."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...sim import ToolError
from ...sim.build_cache import cache_folder, cached_file
from ..backend import Progress
from .capacity import TooLargeError, check_capacity
from .few_pins import PINS, behind_few_pins
from .netlist import Netlist
from .output_registers import use_output_registers
from .targets import Target
from .tools import run_program, tool_version

__all__ = ["Placement", "place_and_route"]

_LOG = "nextpnr.log"
_NETLIST = "netlist.json"
_REPORT = "report.json"

# Where each family's nextpnr takes constraints from, and puts what becomes a bitstream.
_CONSTRAINTS = {
    "ecp5": ("--lpf", "pins.lpf"),
    "ice40": ("--pcf", "pins.pcf"),
    "gowin": ("--vopt", "pins.cst"),
}
_CONFIGURATION = {
    "ecp5": ("--textcfg", "design.config"),
    "ice40": ("--asc", "design.asc"),
    "gowin": ("--write", "design.json"),
}
_UNCONSTRAINED = {"ecp5": "--lpf-allow-unconstrained", "ice40": "--pcf-allow-unconstrained"}

# The static placer sometimes does not converge, as its author says (nextpnr's pull request 1224),
# and then never ends. Where it does, more than 560 iterations have not been seen.
_MOST_ITERATIONS = 1000
_OTHER_PLACER = "heap"

# What is done to netlists first, the wrapper of `few_pins` left aside; another number, for every
# family that it concerns, where that or the wrapper becomes something else.
_CHANGES = {"ecp5": "output registers 1"}

# What nextpnr logs when a stage begins, and how much of the work is done then.
_STAGES = {
    "Packing": ("packing", 0.0),
    "Creating initial": ("placing", 0.1),
    "Running Static placer": ("placing", 0.1),
    "Running simulated annealing": ("placing", 0.3),
    "Routing": ("routing", 0.6),
}

# What nextpnr calls parts of a device.
_PACKED = {
    **dict.fromkeys(("TRELLIS_COMB", "ICESTORM_LC", "LUT4"), "luts"),
    **dict.fromkeys(("TRELLIS_FF", "DFF"), "ffs"),
    **dict.fromkeys(("DP16KD", "ICESTORM_RAM", "BSRAM"), "brams"),
    **dict.fromkeys(("MULT18X18D", "ICESTORM_DSP", "MULT18X18", "MULT9X9"), "dsps"),
}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A design placed and routed.

    Parameters
    ----------
    target : str
        Name of the device.
    seed : int
        What the placer's choices began with.
    placer : str
        Which of nextpnr's: the target's, or ``heap`` where that one did not converge.
    fmax_mhz : float
        Highest frequency of the clock; the lowest of them where there are several.
    fmax_by_clock : mapping of str to float
        That of each clock.
    utilisation : mapping of str to pair of int
        Cells used and there, by nextpnr's kinds of cell; those of a wrapper are among them.
    critical_path : tuple of str
        Cells and nets of the slowest path, with the nanoseconds that each takes.
    configuration : str or None
        What a bitstream is packed from; None if it was placed out of context.
    seconds : float
        How long it took.
    cached : bool
        Whether it was in the cache.
    """

    target: str
    seed: int
    placer: str
    fmax_mhz: float
    fmax_by_clock: Mapping[str, float]
    utilisation: Mapping[str, tuple[int, int]]
    critical_path: tuple[str, ...]
    configuration: str | None
    seconds: float
    cached: bool


def place_and_route(
    netlist: Netlist,
    target: Target,
    *,
    seed: int = 1,
    frequency_mhz: float = 100.0,
    constraints: str | None = None,
    out_of_context: bool = True,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Placement:
    """Place and route a netlist, or find the result in the cache.

    Parameters
    ----------
    netlist : Netlist
        What :func:`synthesise` made for the same target.
    target : Target
        The device.
    seed : int
        What the placer's choices begin with.
    frequency_mhz : float
        What to aim at. A lower frequency that is reached is no error.
    constraints : str, optional
        Pins and clocks, as LPF (ECP5), PCF (iCE40) or CST (Gowin).
    out_of_context : bool
        Whether ports are no pins: an engine has more than any device. It then gets a wrapper that
        brings them out through three, between registers; its one clock is ``clk``.
    progress, cache
        As for :func:`synthesise`.

    Raises
    ------
    :exc:`ValueError`
        If there is no place and route for the target, the netlist is another target's, has no
        ``clk`` out of context, or needs more than the device has.
    :exc:`ToolError`
        If nextpnr is missing or fails.
    """
    if not target.places:
        raise ValueError(f"There is no place and route for {target.name} here; Vivado does it")
    if netlist.target != target:
        raise ValueError(f"The netlist is of {netlist.target.name}, not {target.name}")
    check_capacity(netlist.cells, target)
    if out_of_context and target.few_pins:
        places = zip(PINS, target.few_pins, strict=True)
        constraints = (constraints or "") + "".join(
            f'IO_LOC "{port}" {pin};\n' for port, pin in places
        )
    arguments = [
        *target.nextpnr,
        *("--json", _NETLIST, "--report", _REPORT, "--seed", str(seed)),
        *("--freq", f"{frequency_mhz:g}", "--timing-allow-fail"),
    ]
    arguments += _family_arguments(target, constraints, out_of_context)
    program = target.programs[0]

    built = []

    def build(folder: Path) -> None:
        built.append(True)
        if constraints is not None:
            (folder / _CONSTRAINTS[target.family][1]).write_text(constraints)
        placement = _place(
            folder, netlist, target, seed, arguments, out_of_context, progress or _silent
        )
        (folder / "placement.json").write_text(json.dumps(placement))

    file = cached_file(
        "placement.json",
        [
            netlist.file.parent.name,  # a hash of all that went into it
            str(out_of_context),
            constraints or "",
            program,
            tool_version(program),
            _CHANGES.get(target.family, ""),
            *(field.name for field in fields(Placement)),
            *_placer_arguments(target.placer),
            *arguments,
        ],
        build,
        cache=cache_folder() if cache is None else cache,
    )
    data = json.loads(file.read_text())
    data["utilisation"] = {name: tuple(pair) for name, pair in data["utilisation"].items()}
    data["critical_path"] = tuple(data["critical_path"])
    return Placement(**data, cached=not built)


def _silent(words: str, share: float) -> None:
    """Show no progress."""


def _family_arguments(target: Target, constraints: str | None, out_of_context: bool) -> list[str]:
    option, file = _CONSTRAINTS[target.family]
    arguments = []
    if constraints is not None:
        arguments += [option, f"cst={file}" if target.family == "gowin" else file]
    if target.family in _UNCONSTRAINED and (out_of_context or constraints is None):
        arguments.append(_UNCONSTRAINED[target.family])
    if not out_of_context:
        arguments += _CONFIGURATION[target.family]
    return arguments


def _place(
    folder: Path,
    netlist: Netlist,
    target: Target,
    seed: int,
    arguments: list[str],
    out_of_context: bool,
    progress: Progress,
) -> dict[str, Any]:
    data = json.loads(netlist.json)
    if target.family == "ecp5":
        use_output_registers(data)
    if out_of_context:
        behind_few_pins(data, netlist.top, target.family)
    (folder / _NETLIST).write_text(json.dumps(data))

    began = time.perf_counter()
    placer = target.placer
    try:
        _run(folder, target, seed, arguments, placer, progress)
    except _NotConvergingError:
        placer = _OTHER_PLACER
        (folder / _LOG).unlink()
        _run(folder, target, seed, arguments, placer, progress)
    seconds = time.perf_counter() - began
    report = json.loads((folder / _REPORT).read_text())
    by_clock = {name: round(item["achieved"], 2) for name, item in report["fmax"].items()}
    if not by_clock:
        raise ToolError(f"{target.programs[0]} found no path between registers to time")
    written = folder / _CONFIGURATION[target.family][1]
    return {
        "target": target.name,
        "seed": seed,
        "placer": placer,
        "fmax_mhz": min(by_clock.values()),
        "fmax_by_clock": by_clock,
        "utilisation": {
            name: (item["used"], item["available"])
            for name, item in report["utilization"].items()
            if item["used"]
        },
        "critical_path": _critical_path(report),
        "configuration": written.read_text() if written.exists() else None,
        "seconds": round(seconds, 2),
    }


class _NotConvergingError(Exception):
    """The static placer goes round and round, or finds no place for what it spread."""


def _placer_arguments(placer: str) -> tuple[str, str]:
    return "--placer", placer


def _run(
    folder: Path,
    target: Target,
    seed: int,
    arguments: list[str],
    placer: str,
    progress: Progress,
) -> None:
    def watch(text: str) -> None:
        for stage, (words, share) in _STAGES.items():
            if f"Info: {stage}" in text:
                progress(f"seed {seed}: {words}", share)
        iterations = re.findall(r"^Info: iter=(\d+) ", text, re.MULTILINE)
        if iterations and int(iterations[-1]) > _MOST_ITERATIONS:
            raise _NotConvergingError

    command = ["-q", "-l", _LOG, *arguments, *_placer_arguments(placer)]
    try:
        run_program(target.programs[0], command, folder=folder, log=_LOG, watch=watch)
    except ToolError as error:
        _check_packed(folder / _LOG, target)
        if placer != _OTHER_PLACER and "legal placement" in str(error):
            raise _NotConvergingError from error
        raise


def _check_packed(log: Path, target: Target) -> None:
    """Say so if a design did not fit once its cells were packed together."""
    text = log.read_text(errors="replace") if log.exists() else ""
    for kind, used, there in re.findall(r"^Info:\s+(\w+): +(\d+)/ *(\d+) ", text, re.MULTILINE):
        if int(used) > int(there):
            # Other kinds, such as the write ports of ECP5's distributed RAM, come with LUTs.
            called = None if kind in _PACKED else f"cells of type {kind}"
            part = _PACKED.get(kind, "luts")
            raise TooLargeError(target, part, int(used), int(there), called)


def _critical_path(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the slowest path between registers of one clock, one string a step."""
    paths = [
        item["path"]
        for item in report["critical_paths"]
        if item["from"].split()[-1] == item["to"].split()[-1]
    ]
    if not paths:
        return ()
    slowest = max(paths, key=lambda path: sum(step["delay"] for step in path))
    return tuple(
        f"{step['delay']:.2f} {step['type']} {step['from']['cell']} -> {step['to']['cell']}"
        for step in slowest
    )
