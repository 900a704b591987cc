"""``lutra generate``: from a configuration to Verilog."""

import json
from pathlib import Path

import click

from .config import PRESETS
from .console import print_json, print_line, print_table, progress_bar
from .files import write_files
from .manifest import build_manifest
from .options import JSON_OPTION, SETTINGS_OPTION, ExampleCommand, configure
from .package import package_engine
from .verilog import generate

__all__ = ["generate_command"]


@click.command(cls=ExampleCommand, name="generate", example="lutra generate small -o build/small")
@click.argument("config", required=False)
@click.option(
    "-o",
    "--output",
    default="build",
    show_default=True,
    metavar="FOLDER",
    help="Where to write the files.",
)
@click.option(
    "--package",
    is_flag=True,
    help="Write packaging too: AXI4-Stream ports, a FuseSoC core and a Vivado IP description.",
)
@click.option("--list", "list_presets", is_flag=True, help="List the presets.")
@SETTINGS_OPTION
@JSON_OPTION
def generate_command(
    config: str | None,
    output: str,
    package: bool,
    list_presets: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Generate Verilog, its manifest and its configuration from a preset or a TOML file."""
    if list_presets:
        _list_presets(as_json)
        return
    if config is None:
        raise click.UsageError(f"Name a preset ({', '.join(PRESETS)}) or a TOML file to generate")
    chosen = configure(config, settings)
    with progress_bar() as progress:
        progress("generating Verilog", 0.0)
        engine = generate(chosen)
    manifest = build_manifest(chosen, engine)
    files = write_files(
        Path(output),
        {
            f"{chosen.name}.v": engine.verilog,
            f"{chosen.name}.json": json.dumps(manifest, indent=2) + "\n",
            f"{chosen.name}.toml": chosen.to_toml(),
            **(package_engine(chosen, engine) if package else {}),
        },
    )
    if as_json:
        print_json({**manifest, "files": [str(path) for path in files]})
        return
    layout = chosen.parameters.layout
    print_line(
        f"{chosen.name}: {layout.lanes} lanes x {layout.width} weights a slice, "
        f"{engine.verilog.count(chr(10)):,} lines of Verilog"
    )
    for path in files:
        print_line(f"  {path}")


def _list_presets(as_json: bool) -> None:
    if as_json:
        print_json({name: preset.to_dict() for name, preset in PRESETS.items()})
        return
    rows = []
    for name, preset in PRESETS.items():
        layout, numerics = preset.parameters.layout, preset.parameters.numerics
        kinds = f"{numerics.activation} -> {numerics.output}"
        rows.append((name, layout.lanes, layout.width, ", ".join(layout.formats), kinds))
    print_table("Presets", ("name", "lanes", "width", "formats", "numbers"), rows)
