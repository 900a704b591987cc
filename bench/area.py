"""What engines cost in look-up tables, beside the engine of multipliers: the table of docs/area.md.

Every engine at every activation width on every device: cells as Yosys maps them, one tool and one
set of options for all. ``--place`` adds the frequency that nextpnr reaches, the lowest of
``--seeds``, which takes long; an engine that is too large for a device is counted all the same.
``--inner`` shows the inner product alone: tables, look-up and adders of one lane.
``--ladder`` places one lane's arithmetic, codes in and sums out, and shows multiply-accumulates a
second for a thousand cells.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from amaranth import Module, Signal, signed
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lutra.gen import EngineConfig
from lutra.gen.console import number, print_json, print_table, progress_bar
from lutra.gen.synth import (
    TARGETS,
    EngineSynthesis,
    place_and_route,
    synthesise,
    synthesise_engine,
)
from lutra.gen.synth.engine import weight_bits_per_cycle
from lutra.hdl import EngineParameters
from lutra.hdl.cores import core_for
from lutra.hdl.lookup import Lookup

# What is best for each on the devices below. A part of a `mac` or `term` engine's slice a cycle is
# as many weights as the tables take bits, so that all take equally many 4-bit weights a cycle.
ENGINES: dict[str, dict[str, Any]] = {
    "lut, full tables": {"engine": "lut", "core": {"mu": 4, "table": "full"}},
    "lut, full tables once": {"engine": "lut", "core": {"mu": 4, "table": "full", "banks": 1}},
    "lut, half tables": {"engine": "lut", "core": {"mu": 4, "table": "half"}},
    "lut, block RAM": {"engine": "lut", "core": {"mu": 9, "table": "block"}},
    "lut, block RAM once": {"engine": "lut", "core": {"mu": 9, "table": "block", "banks": 1}},
    "term": {"engine": "term", "core": {"fold": 2}},
    "mac": {"engine": "mac", "core": {"fold": 4}},
    "mac, DSP": {"engine": "mac", "core": {"fold": 4, "product": "dsp"}},
}
DEVICES = ("xc7", "ecp5-85k")
ACT_WIDTHS = (8, 12, 16)
FORMATS = ("int4", "bitmod4")
LADDER = ("int4", "int2", "ternary")
SEEDS = 3


def configuration(
    engine: str,
    *,
    lanes: int,
    width: int,
    act_width: int,
    device: str = "xc7",
    adder_levels: int = 1,
    formats: Sequence[str] = FORMATS,
) -> EngineConfig:
    """Return an engine of the table: a scale for each slice's weights, float32 out."""
    chosen = ENGINES[engine]
    return EngineConfig.from_dict({
        "name": "engine",
        "engine": chosen["engine"],
        "stream": {
            "lanes": lanes,
            "width": width,
            "tile_slices": 1,
            "formats": list(formats),
            "group_sizes": [width],
            # Planes are what tables look up; the others turn codes into values.
            "numbering": "planes" if chosen["engine"] == "lut" else "values",
        },
        "numerics": {
            "activation": "int8" if act_width == 8 else "float16",
            "act_width": act_width,
            "output": "float32",
        },
        "datapath": {
            "act_lanes": 16,
            "slices_ahead": 1,
            "adder_levels": adder_levels,
            "lut_inputs": TARGETS[device].lut_inputs,
        },
        "core": chosen["core"],
    })


def engine_row(
    name: str, result: EngineSynthesis, act_width: int, baseline: int | None
) -> dict[str, Any]:
    """Return a row of the table as plain data."""
    cells, rate = result.netlist.cells, weight_bits_per_cycle(result.config)
    fmax = result.fmax_mhz
    return {
        "engine": name,
        "device": result.netlist.target.name,
        "act_width": act_width,
        "luts": cells.luts,
        "lutram_luts": cells.lutram_luts,
        "ffs": cells.ffs,
        "brams": cells.brams,
        "dsps": cells.dsps,
        "luts_per_weight_bit": round(cells.luts / rate, 2),
        "share_of_mac": None if baseline is None else round(cells.luts / baseline, 4),
        "fmax_mhz": fmax,
        "giga_weights_per_s": None if fmax is None else round(fmax * rate / 4 / 1000, 3),
        "placer": "/".join(sorted({item.placer for item in result.placements})) or None,
    }


def measure_engines(arguments: argparse.Namespace, progress) -> list[dict[str, Any]]:
    """Synthesise everything that is asked for."""
    rows = []
    names = sorted(arguments.engines, key=lambda name: name != "mac")  # the baseline first
    runs = len(arguments.devices) * len(arguments.act_widths) * len(names)
    for device in arguments.devices:
        for act_width in arguments.act_widths:
            baseline = None
            for name in names:
                config = configuration(
                    name,
                    lanes=arguments.lanes,
                    width=arguments.width,
                    act_width=act_width,
                    device=device,
                    adder_levels=arguments.adder_levels,
                )
                progress(f"{name} of {act_width} bits on {device}", len(rows) / runs)
                places = arguments.place and TARGETS[device].places
                seeds = range(1, arguments.seeds + 1) if places else ()
                try:
                    result = synthesise_engine(config, TARGETS[device], seeds=seeds)
                except ValueError as error:  # too large to be placed: its cells count all the same
                    print(error, file=sys.stderr)
                    result = synthesise_engine(config, TARGETS[device], seeds=())
                if name == "mac":
                    baseline = result.netlist.cells.luts
                rows.append(engine_row(name, result, act_width, baseline))
    return rows


def measure_inner_products(arguments: argparse.Namespace, progress) -> list[dict[str, Any]]:
    """Synthesise one lane's tables, look-up and adders; building the tables is shared by all."""
    rows = []
    for device in arguments.devices:
        for name in arguments.engines:
            if ENGINES[name]["engine"] != "lut":
                continue
            progress(f"inner product of {name} on {device}", 0.0)
            config = configuration(
                name,
                lanes=8,
                width=arguments.width,
                act_width=8,
                device=device,
                adder_levels=arguments.adder_levels,
            )
            text = verilog.convert(
                Lookup(parameters=config.parameters), name="lookup", emit_src=False
            )
            cells = synthesise(text, "lookup", TARGETS[device]).cells
            rows.append({
                "tables": name,
                "device": device,
                "mu": ENGINES[name]["core"]["mu"],
                "luts": cells.luts,
                "lutram_luts": cells.lutram_luts,
                "brams": cells.brams,
                "luts_per_weight_bit": round(cells.luts / arguments.width, 2),
            })
    return rows


class Arithmetic(wiring.Component):
    """A lane's core, and one accumulator for a token: no stream, no scales, no rows."""

    total: Signal

    def __init__(self, parameters: EngineParameters) -> None:
        self.core = core_for(parameters)
        inputs = {
            name: member for name, member in self.core.signature.members.items() if name != "sums"
        }
        super().__init__(inputs | {"total": Out(signed(24))})

    def elaborate(self, platform: object) -> Module:
        """Return the logic."""
        m = Module()
        m.submodules.core = core = self.core
        total = Signal(signed(24), reset_less=True)
        for name in self.signature.members:
            if name != "total":
                m.d.comb += getattr(core, name).eq(getattr(self, name))
        m.d.sync += total.eq(total + core.sums[0])
        m.d.comb += self.total.eq(total)
        return m


def measure_ladder(arguments: argparse.Namespace, progress) -> list[dict[str, Any]]:
    """Place and route one lane's arithmetic for one format at a time."""
    rows = []
    for device in (name for name in arguments.devices if TARGETS[name].places):
        for item in LADDER:
            for name in arguments.engines:
                progress(f"{item} by {name} on {device}", 0.0)
                row = ladder_row(item, name, device, arguments)
                print(row, file=sys.stderr)
                rows.append(row)
    return rows


def ladder_row(item: str, name: str, device: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Place and route one lane's arithmetic."""
    config = configuration(
        name,
        lanes=8,
        width=arguments.width,
        act_width=8,
        device=device,
        adder_levels=arguments.adder_levels,
        formats=[item],
    )
    layout = config.parameters.layout
    if config.engine == "mac":  # no more multipliers than its stream keeps busy
        config = config.replace({"core.fold": str(layout.members[0].code_width)})
    # As many weights a cycle as the lane's stream brings, whatever the engine.
    weights = layout.width / config.parameters.slice_cycles(layout.members[0])
    text = verilog.convert(Arithmetic(config.parameters), name="arithmetic", emit_src=False)
    netlist = synthesise(text, "arithmetic", TARGETS[device], dsp="DSP" in name)
    placed = [
        place_and_route(netlist, TARGETS[device], seed=seed, frequency_mhz=200.0)
        for seed in range(1, arguments.seeds + 1)
    ]
    cells = placed[0].utilisation["TRELLIS_COMB"][0]
    fmax = min(placement.fmax_mhz for placement in placed)
    return {
        "format": item,
        "engine": name,
        "device": device,
        "weights_per_cycle": weights,
        "cells": cells,
        "brams": netlist.cells.brams,
        "fmax_mhz": fmax,
        "placer": "/".join(sorted({item.placer for item in placed})),
        "giga_macs_per_s_per_1000_cells": round(weights * fmax / cells, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--width", type=int, default=128, help="weights of a lane's slice")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--devices", nargs="+", default=list(DEVICES), choices=list(TARGETS))
    parser.add_argument("--act-widths", nargs="+", type=int, default=list(ACT_WIDTHS))
    parser.add_argument("--place", action="store_true", help="also place and route")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how often to place")
    parser.add_argument("--inner", action="store_true", help="inner products alone")
    parser.add_argument("--ladder", action="store_true", help="one lane's arithmetic, placed")
    parser.add_argument(
        "--adder-levels", type=int, default=1, help="levels of adders between registers"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--markdown", action="store_true", help="as a table of docs/area.md")
    arguments = parser.parse_args()
    with progress_bar() as progress:
        measure = measure_inner_products if arguments.inner else measure_engines
        if arguments.ladder:
            measure = measure_ladder
        rows = measure(arguments, progress)
    if arguments.json:
        print_json(rows)
        return
    shown = [tuple(map(_shown, row.values())) for row in rows]
    if arguments.markdown:
        for cells in (tuple(rows[0]), ("---",) * len(rows[0]), *shown):
            print(f"| {' | '.join(cells)} |")
        return
    weights = arguments.lanes * arguments.width // 4
    title = f"{arguments.lanes} lanes x {arguments.width}, {weights} 4-bit weights a cycle"
    if arguments.inner:
        title = f"One lane of {arguments.width} weight bits a cycle, 8-bit activations"
    if arguments.ladder:
        title = f"One lane of {arguments.width} weight bits a cycle, 8-bit activations, placed"
    print_table(title, tuple(rows[0]), shown)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else value


if __name__ == "__main__":
    main()
