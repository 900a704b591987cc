"""The command line: ``lutra COMMAND``."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..formats import CATALOG, BinaryCodingFormat, NumberFormat, ValueFormat, family, pack
from ..quant import METHODS, ModelFile, Recipe, quantize, quantize_file
from ..sim import ToolError
from .backends import BACKENDS, EngineError, make_backend
from .config import PRESETS, EngineConfig, load_config
from .console import number, print_json, print_table, progress_bar
from .files import write_files
from .manifest import build_manifest
from .select import select_layers
from .simulate import LayerComparison, compare_layer, random_tokens, summarize
from .verilog import generate

__all__ = ["main"]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
_SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting, such as stream.lanes=8 or numerics.output=float16; repeatable.",
)


class _Examples(click.Command):
    """A command whose help ends with its example, line breaks kept."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epilog = f"\b\nExample:\n  {example}"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("lutra"))
def cli() -> None:
    """Turn quantised layers into LUT-GEMM hardware, bit for bit."""


@cli.command(cls=_Examples, name="formats", example="lutra formats bitmod4")
@click.argument("name", required=False)
@_JSON
def formats_command(name: str | None, as_json: bool) -> None:
    """List the number formats, or show the values, planes and terms of one."""
    if name is None:
        _list_formats(as_json)
        return
    members = family(name).members
    if as_json:
        print_json({"name": name, "members": [_describe(item) for item in members]})
        return
    for item in members:
        _show_format(item)


def _list_formats(as_json: bool) -> None:
    rows = [
        {
            "name": entry.name,
            "code_bits": entry.code_width,
            "planes": max(len(item.planes) for item in entry.members),
            "members": len(entry.members),
            "summary": entry.summary,
        }
        for entry in CATALOG.values()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table("Number formats", list(rows[0]), [list(row.values()) for row in rows])


def _describe(item: NumberFormat) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": item.name,
        "code_bits": item.code_width,
        "scales": item.scale_count,
        "zero_point": item.has_zero_point,
        "planes": [
            {
                "truth": f"{plane.truth:0{max(1, (1 << item.code_width) // 4)}x}",
                "coefficient": plane.coefficient,
                "digits": [-1, 1] if plane.bipolar else [0, 1],
                "scale": plane.scale_index,
            }
            for plane in item.planes
        ],
    }
    if isinstance(item, ValueFormat):
        described["grid"] = 2.0**item.grid_exponent
        described["values"] = list(item.values)
        described["terms"] = [[term.value for term in terms] for terms in item.terms]
    if isinstance(item, ValueFormat | BinaryCodingFormat):
        described["source"] = item.source
    return described


def _show_format(item: NumberFormat) -> None:
    planes = [
        (
            index,
            f"{plane.coefficient:+d}",
            "-1, +1" if plane.bipolar else "0, 1",
            plane.scale_index,
            "".join(str(plane.truth >> code & 1) for code in range(1 << item.code_width)),
        )
        for index, plane in enumerate(item.planes)
    ]
    print_table(
        f"{item.name}: {item.code_width}-bit codes, {len(item.planes)} planes, "
        f"{item.scale_count} scale(s) a group{', zero-point' if item.has_zero_point else ''}",
        ("plane", "coefficient", "digits", "scale", "digit of code 0, 1, 2, ..."),
        planes,
    )
    if not isinstance(item, ValueFormat):
        return
    step = 2.0**item.grid_exponent
    rows = [
        (
            f"{code:0{item.code_width}b}",
            value,
            f"{value * step:g}",
            " ".join(f"{term.value:+d}" for term in terms) or "none",
        )
        for code, (value, terms) in enumerate(zip(item.values, item.terms, strict=True))
    ]
    columns = ("code", "on the grid", "value", "signed powers of two")
    print_table(f"{item.name}: grid step {step:g}; {item.source}", columns, rows)


@cli.command(
    cls=_Examples,
    name="quantize",
    example="lutra quantize model.safetensors -o model.lutra.safetensors --format bitmod4",
)
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="Model file to write.")
@click.option("--format", "format_name", default="bitmod4", show_default=True, help="Format.")
@click.option(
    "--group-size", default="128", show_default=True, help="Weights of one group, or 'row'."
)
@click.option("--method", help=f"Quantiser: {', '.join(METHODS)}; by default the format's own.")
@click.option("--scale-width", default=8, show_default=True, help="Magnitude bits of a scale.")
@click.option(
    "--layers",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Layers to take, such as 'model.layers.0.*'; repeatable. Default: every matrix named "
    "*.weight but embeddings.",
)
@_JSON
def quantize_command(
    checkpoint: str,
    output: str,
    format_name: str,
    group_size: str,
    method: str | None,
    scale_width: int,
    patterns: tuple[str, ...],
    as_json: bool,
) -> None:
    """Quantise a .safetensors checkpoint (float32, float16, bfloat16) into a model file."""
    recipe = Recipe(
        format=format_name,
        group_size=_group_size(group_size),
        method=method,
        scale_width=scale_width,
    )
    with progress_bar() as progress:
        model = quantize_file(
            checkpoint,
            output,
            recipe,
            patterns=list(patterns) or None,
            progress=lambda layer, done, total: progress(layer, done / max(total, 1)),
        )
    _print_model(model, as_json)


def _group_size(text: str) -> int | None:
    if text == "row":
        return None
    if not text.lstrip("-").isdigit():
        raise ValueError(f"Group size must be a number or 'row', not {text!r}")
    return int(text)


@cli.command(cls=_Examples, name="inspect", example="lutra inspect model.lutra.safetensors")
@click.argument("model")
@_JSON
def inspect_command(model: str, as_json: bool) -> None:
    """Show what a model file holds, and check its hash."""
    opened = ModelFile(model)
    opened.verify()
    _print_model(opened, as_json)


def _print_model(model: ModelFile, as_json: bool) -> None:
    rows = []
    for name in model.layers:
        record = model.record(name)
        rows.append({
            "layer": name,
            "rows": record.rows,
            "columns": record.columns,
            "format": record.format,
            "group_size": record.group_size,
            "bits_per_weight": round(model.bits_per_weight(name), 4),
            "groups": model.group_counts(name),
        })
    weights = sum(row["rows"] * row["columns"] for row in rows)
    bits = sum(row["rows"] * row["columns"] * row["bits_per_weight"] for row in rows)
    recipe = json.loads(model.recipe.to_json()) if model.recipe else None
    if as_json:
        mean = bits / weights
        print_json({"file": str(model.path), "recipe": recipe, "weights": weights,
                    "bits_per_weight": mean, "layers": rows})  # fmt: skip
        return
    table = [
        (
            row["layer"],
            f"{row['rows']} x {row['columns']}",
            row["format"],
            row["group_size"],
            number(row["bits_per_weight"]),
            " ".join(f"{name}:{count}" for name, count in row["groups"].items()),
        )
        for row in rows
    ]
    columns = ("layer", "shape", "format", "group", "bits a weight", "groups")
    title = f"{model.path}: {weights:,} weights at {bits / weights:.3f} bits as stored"
    print_table(title, columns, table)


@cli.command(cls=_Examples, name="generate", example="lutra generate small -o build/small")
@click.argument("config", required=False)
@click.option("-o", "--output", default="build", show_default=True, help="Folder to write into.")
@click.option("--list", "list_presets", is_flag=True, help="List the presets.")
@_SET
@_JSON
def generate_command(
    config: str | None,
    output: str,
    list_presets: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Generate Verilog, its manifest and its configuration from a preset or a TOML file."""
    if list_presets:
        _list_presets(as_json)
        return
    if config is None:
        raise ValueError(f"Name a preset ({', '.join(PRESETS)}) or a TOML file to generate")
    chosen = _configure(config, settings)
    with progress_bar() as progress:
        progress("generating Verilog", 0.0)
        engine = generate(chosen)
    manifest = build_manifest(chosen, engine)
    folder = Path(output)
    files = write_files(
        folder,
        {
            f"{chosen.name}.v": engine.verilog,
            f"{chosen.name}.json": json.dumps(manifest, indent=2) + "\n",
            f"{chosen.name}.toml": chosen.to_toml(),
        },
    )
    if as_json:
        print_json({**manifest, "files": [str(path) for path in files]})
    else:
        layout = chosen.parameters.layout
        click.echo(
            f"{chosen.name}: {layout.lanes} lanes x {layout.width} weights a cycle, "
            f"{engine.verilog.count(chr(10)):,} lines of Verilog"
        )
        for path in files:
            click.echo(f"  {path}")


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


def _configure(config: str, settings: tuple[str, ...]) -> EngineConfig:
    chosen = load_config(config)
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"A setting must be NAME=VALUE, not {setting!r}")
        changes[name] = value
    return chosen.replace(changes) if changes else chosen


@cli.command(
    cls=_Examples,
    name="simulate",
    example="lutra simulate small --shape 1024x1024 --format bitmod4 --json",
)
@click.argument("config")
@click.option("--model", "model_path", help="Model file whose layers to run.")
@click.option(
    "--layers", "patterns", multiple=True, metavar="PATTERN", help="Layers of it; default all."
)
@click.option("--shape", help="Run a random layer of N x K instead, such as 1024x1024.")
@click.option("--format", "format_name", default="bitmod4", show_default=True, help="Its format.")
@click.option("--group-size", default="128", show_default=True, help="Its group size, or 'row'.")
@click.option("--tokens", default=4, show_default=True, help="Activation vectors a layer.")
@click.option("--seed", default=1, show_default=True, help="Of everything random.")
@click.option(
    "--sim", default="verilator", show_default=True, help=f"One of {', '.join(BACKENDS)}."
)
@_SET
@_JSON
def simulate_command(
    config: str,
    model_path: str | None,
    patterns: tuple[str, ...],
    shape: str | None,
    format_name: str,
    group_size: str,
    tokens: int,
    seed: int,
    sim: str,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run layers through the engine and compare every output bit with the golden model."""
    chosen = _configure(config, settings)
    if (model_path is None) == (shape is None):
        raise ValueError("Give either --model FILE or --shape NxK")
    if tokens < 1:
        raise ValueError(f"--tokens must be at least 1, not {tokens}")
    if model_path is not None:
        model = ModelFile(model_path)
        names, load = select_layers(model, patterns), model.layer
    else:
        matrix = _random_layer(str(shape), format_name, group_size, seed)
        names, load = ["random"], lambda _: matrix

    comparisons = []
    with progress_bar() as progress:
        pack(load(names[0]), chosen.parameters.layout)  # refuse before compiling for minutes
        backend = make_backend(sim, chosen, progress)
        for index, name in enumerate(names):
            progress(name, index / len(names))
            layer = load(name)
            x = random_tokens(chosen.parameters.numerics, tokens, layer.columns, seed=seed + index)
            comparisons.append(compare_layer(name, layer, x, config=chosen, backend=backend))
    report = summarize(comparisons, sim=sim)
    if as_json:
        print_json(report)
    else:
        _print_comparisons(comparisons, report)
    if not report["bit_exact"]:
        sys.exit(1)


def _random_layer(shape: str, format_name: str, group_size: str, seed: int) -> Any:
    parts = shape.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() and int(part) for part in parts):
        raise ValueError(f"--shape must be rows x columns, such as 1024x1024, not {shape!r}")
    rows, columns = map(int, parts)
    weights = np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)
    return quantize(weights, format=format_name, group_size=_group_size(group_size))


def _print_comparisons(comparisons: list[LayerComparison], report: dict[str, Any]) -> None:
    rows = [
        (
            item.layer,
            f"{item.rows} x {item.columns}",
            item.format,
            item.outputs,
            item.mismatches,
            "-" if item.cycles is None else f"{item.cycles:,}",
            number(item.utilisation and 100 * item.utilisation, 1, " %"),
            number(item.stream_bits / (item.rows * item.columns)),
        )
        for item in comparisons
    ]
    columns = (
        "layer",
        "shape",
        "format",
        "outputs",
        "differ",
        "cycles",
        "utilisation",
        "bits a weight",
    )
    print_table(f"Simulated by {report['sim']}", columns, rows)
    verdict = "bit-exact" if report["bit_exact"] else f"{report['mismatches']} outputs DIFFER"
    click.echo(
        f"{report['outputs']:,} outputs, {verdict}; utilisation "
        f"{number(report['utilisation'] and 100 * report['utilisation'], 1, ' %')}, "
        f"{report['seconds']:.2f} s"
    )


def main() -> None:
    """Run the command line: exit 0 when done, 1 if a comparison failed, 2 for bad input."""
    try:
        cli.main(prog_name="lutra", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EngineError as error:
        _fail(error, 1)
    except (ValueError, ToolError) as error:
        _fail(error, 2)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _fail(f"{name}{error.strerror or error}", 2)


def _fail(error: Any, status: int) -> None:
    click.echo(f"lutra: {error}", err=True)
    sys.exit(status)
