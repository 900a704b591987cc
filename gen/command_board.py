"""``lutra board``: bitstreams of boards, and layers through them."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import click

from ..fpga import BOARDS, Link, SimulatedBoard, find_board
from .backend_board import BoardBackend, check_room
from .board_bitstream import build_bitstream
from .board_run import BoardRun, run_layer, summarize_runs
from .board_verilog import board_config, generate_board
from .console import number, print_json, print_line, print_table, progress_bar
from .files import write_files
from .layer_choice import choose_layers, layer_options
from .options import JSON_OPTION, ExampleCommand
from .serial_port import open_port
from .tokens import random_tokens

__all__ = ["board_command"]

_SIMULATED_DIVISOR = 4  # the fewest cycles of a bit, so that less is simulated

_BOARD_OPTION = click.option(
    "--board", "name", required=True, metavar="NAME", help="Which board; see lutra board list."
)


@click.group(name="board")
def board_command() -> None:
    """Build bitstreams for boards, and run layers on them."""


@board_command.command(name="list", cls=ExampleCommand, example="lutra board list")
@JSON_OPTION
def list_command(as_json: bool) -> None:
    """List the boards."""
    entries = []
    for board in BOARDS.values():
        config = board_config(board)
        entries.append({
            "board": board.name,
            "title": board.title,
            "device": board.device,
            "clock_mhz": board.clock / 1e6,
            "engine": config.engine,
            "lanes": config.parameters.layout.lanes,
            "width": config.parameters.layout.width,
            "formats": list(config.parameters.layout.formats),
            "weight_bytes": board.memory.weights * config.interface.beat_width // 8,
        })
    if as_json:
        print_json({"boards": entries})
        return
    rows = [
        (
            item["board"],
            item["title"],
            item["device"],
            f"{item['clock_mhz']:g} MHz",
            f"{item['engine']}, {item['lanes']} x {item['width']}",
            ", ".join(item["formats"]),
            f"{item['weight_bytes']:,}",
        )
        for item in entries
    ]
    columns = ("board", "name", "device", "clock", "engine", "formats", "bytes for weights")
    print_table("Boards", columns, rows)


@board_command.command(name="build", cls=ExampleCommand, example="lutra board build ulx3s")
@click.argument("name", metavar="BOARD")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    metavar="FOLDER",
    help="Where the bitstream goes, into a folder of the board's name.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the placer."
)
@JSON_OPTION
def build_command(name: str, output: Path, seed: int, as_json: bool) -> None:
    """Synthesise, place and route a board's bitstream."""
    board = find_board(name)
    with progress_bar() as progress:
        built = build_bitstream(board, seed=seed, progress=progress)
    (path,) = write_files(output / name, {f"{name}.{built.suffix}": built.content})
    if as_json:
        print_json({
            "board": name,
            "file": str(path),
            "bytes": len(built.content),
            "fmax_mhz": built.fmax_mhz,
            "clock_mhz": built.clock_mhz,
            "utilisation": {kind: list(pair) for kind, pair in built.utilisation.items()},
        })
        return
    rows = [
        (kind, used, there, number(100 * used / there, 0, " %"))
        for kind, (used, there) in built.utilisation.items()
    ]
    print_table(f"{board.title}, {board.device}", ("cells", "used", "there", "share"), rows)
    print_line(f"{path}: {built.fmax_mhz:.1f} MHz, clocked with {built.clock_mhz:g} MHz")


@board_command.command(
    name="run",
    cls=ExampleCommand,
    example="lutra board run --board ulx3s --port /dev/ttyUSB0 --shape 256x512 --tokens 8",
)
@_BOARD_OPTION
@click.option("--port", required=True, metavar="PATH", help="Serial port that the board is on.")
@layer_options
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="COUNT",
    help="Activation vectors a layer.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up when the board has not answered for so long.",
)
@JSON_OPTION
@click.pass_context
def run_command(
    context: click.Context,
    name: str,
    port: str,
    tokens: int,
    timeout: float,
    as_json: bool,
    seed: int,
    **which: Any,
) -> None:
    """Run layers on a board and compare every output bit with the golden model."""
    if not math.isfinite(timeout):  # no range refuses it
        raise click.BadParameter(f"{timeout} is not a number of seconds", param_hint="'--timeout'")
    board = find_board(name)
    config = board_config(board)
    layers = choose_layers(context, config, seed=seed, **which)
    layers.check(config)
    for layer_name in layers.names:  # all of them, before the first takes its time
        check_room(board, config.parameters.pack(layers.load(layer_name)))
    runs = []
    with open_port(port, board.baud) as line, progress_bar() as progress:
        backend = BoardBackend(board, Link(line, timeout=timeout))
        for index, layer_name in enumerate(layers.names):
            progress(layer_name, index / len(layers.names))
            layer = layers.load(layer_name)
            x = random_tokens(config.parameters.numerics, tokens, layer.columns, seed=seed + index)
            runs.append(run_layer(layer_name, layer, x, backend))
    report = summarize_runs(runs, board=name)
    if as_json:
        print_json(report)
    else:
        _print_runs(runs, report, board.title)
    if not report["bit_exact"]:
        context.exit(1)


@board_command.command(
    name="simulate", cls=ExampleCommand, example="lutra board simulate --board icebreaker"
)
@_BOARD_OPTION
def simulate_command(name: str) -> None:
    """Simulate a board behind a pseudo-terminal, until interrupted.

    Give the path that it prints to lutra board run as --port, in another terminal.
    """
    board = find_board(name)
    with progress_bar() as progress:
        progress("generating Verilog", 0.0)
        design = generate_board(board, divisor=_SIMULATED_DIVISOR)
        simulated = SimulatedBoard(
            design.verilog, top=design.top, divisor=design.divisor, progress=progress
        )
    with simulated:
        print_line(simulated.port)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


def _print_runs(runs: list[BoardRun], report: dict[str, Any], title: str) -> None:
    rows = [
        (
            run.layer,
            f"{run.rows} x {run.columns}",
            run.outputs,
            run.mismatches,
            number(run.cycles, 0),
            number(run.predicted_cycles, 0),
            run.sent,
            run.received,
            run.repeats,
            number(run.seconds, 2),
        )
        for run in runs
    ]
    columns = ("layer", "shape", "outputs", "differ", "cycles", "predicted")
    print_table(title, (*columns, "bytes sent", "received", "repeats", "seconds"), rows)
    verdict = "bit-exact" if report["bit_exact"] else f"{report['mismatches']:,} DIFFER"
    if not report["cycles_as_predicted"]:
        verdict += ", cycles NOT AS PREDICTED"
    print_line(f"{report['outputs']:,} outputs, {verdict}; {report['seconds']:.2f} s")
