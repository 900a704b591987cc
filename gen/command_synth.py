"""``lutra synth``: what an engine costs in a device, and how fast it is there."""

import json
import math
from pathlib import Path
from typing import Any

import click

from .console import number, print_json, print_line, print_table, progress_bar
from .files import write_files
from .options import JSON_OPTION, SETTINGS_OPTION, ExampleCommand, configure
from .synth import TARGETS, Block, EngineSynthesis, find_target, synthesise_engine
from .synth.capacity import PARTS
from .synth.vivado import NOT_RUN, vivado_files

__all__ = ["synth_command"]


@click.command(
    cls=ExampleCommand, name="synth", example="lutra synth tiny --target ecp5-25k --hierarchy"
)
@click.argument("config")
@click.option(
    "-t",
    "--target",
    required=True,
    metavar="DEVICE",
    help=f"What to synthesise for: {', '.join(TARGETS)}.",
)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="Write the netlist, the figures and, for AMD's devices, a Vivado project there.",
)
@click.option(
    "--dsp/--no-dsp",
    default=None,
    help="Whether products may go into DSP blocks; by default as the configuration says.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1, max=100),
    default=1,
    show_default=True,
    metavar="COUNT",
    help="How often to place and route; the lowest frequency counts.",
)
@click.option(
    "--frequency",
    type=click.FloatRange(min=1, max=2000),
    default=100.0,
    show_default=True,
    metavar="MHZ",
    help="What place and route aims at.",
)
@click.option(
    "--no-place", is_flag=True, help="Stop after synthesis; the engine need not fit the device."
)
@click.option("--hierarchy", is_flag=True, help="Show what each block takes; synthesises twice.")
@SETTINGS_OPTION
@JSON_OPTION
def synth_command(
    config: str,
    target: str,
    output: str | None,
    dsp: bool | None,
    seeds: int,
    frequency: float,
    no_place: bool,
    hierarchy: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Synthesise an engine; place and route it where open tools can.

    Out of context: the engine by itself, between registers behind three pins.
    """
    device = find_target(target)
    if math.isnan(frequency):  # no range refuses it
        raise click.BadParameter("nan is not a number of MHz", param_hint="'--frequency'")
    chosen = configure(config, settings)
    with progress_bar() as progress:
        result = synthesise_engine(
            chosen,
            device,
            dsp=dsp,
            seeds=() if no_place else range(1, seeds + 1),
            frequency_mhz=frequency,
            hierarchy=hierarchy,
            progress=progress,
        )
    report = result.to_dict()
    if not device.places:
        report["vivado"] = NOT_RUN
    files = _write(Path(output), result, report, frequency) if output else []
    if as_json:
        print_json(report | ({"files": [str(path) for path in files]} if output else {}))
        return
    _print_figures(result, report)
    if result.hierarchy is not None:
        _print_hierarchy(result.hierarchy)
    for path in files:
        print_line(f"  {path}")


def _write(
    folder: Path, result: EngineSynthesis, report: dict[str, Any], frequency: float
) -> list[Path]:
    name, target = result.config.name, result.netlist.target
    contents = {
        f"{name}_{target.name}.v": result.netlist.verilog,
        f"{name}_{target.name}.json": json.dumps(report, indent=2) + "\n",
    }
    if not target.places:
        contents |= vivado_files(
            result.config, result.verilog, target, dsp=result.dsp, frequency_mhz=frequency
        )
    return write_files(folder, contents)


def _print_figures(result: EngineSynthesis, report: dict[str, Any]) -> None:
    target = result.netlist.target
    rows = []
    for part, words in PARTS.items():
        there = getattr(target, part)
        share = number(100 * report[part] / there, 1, " %") if there else "-"
        rows.append((words, f"{report[part]:,}", f"{there:,}", share))
        if part == "luts":
            rows.append(("  of these memory", f"{report['lutram_luts']:,}", "", ""))
            rows.append(("carry cells", f"{report['carry']:,}", "", ""))
    title = f"{result.config.name} on {target.name} ({target.device})"
    print_table(title, ("", "used", "there", "share"), rows)
    rate = report["weight_bits_per_cycle"]
    print_line(
        f"{rate:,g} weight bits a cycle, {report['luts_per_weight_bit']:.2f} LUTs for each; "
        f"{_frequency(result)}; {report['seconds']:.1f} s" + (" (cached)" * result.cached)
    )


def _frequency(result: EngineSynthesis) -> str:
    if result.fmax_mhz is None:
        return "not placed" if result.netlist.target.places else NOT_RUN
    seeds = [placement.fmax_mhz for placement in result.placements]
    others = {placement.placer for placement in result.placements} - {result.netlist.target.placer}
    by = f", by the placer {', '.join(others)}" if others else ""
    if len(seeds) == 1:
        return f"{seeds[0]:.1f} MHz{by}"
    return f"{min(seeds):.1f} to {max(seeds):.1f} MHz with {len(seeds)} seeds{by}"


def _print_hierarchy(top: Block) -> None:
    rows: list[tuple[Any, ...]] = []

    def add(block: Block, depth: int) -> None:
        cells = block.cells
        numbers = (cells.luts, cells.lutram_luts, cells.ffs, cells.carry, cells.brams, cells.dsps)
        rows.append(("  " * depth + block.name, block.count, *(f"{item:,}" for item in numbers)))
        for inner in sorted(block.blocks, key=lambda item: -item.cells.luts * item.count):
            add(inner, depth + 1)

    add(top, 0)
    columns = ("block", "count", "LUTs", "memory", "FFs", "carry", "BRAMs", "DSPs")
    print_table("One of each block, everything inside it included", columns, rows)
