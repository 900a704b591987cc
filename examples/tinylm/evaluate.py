"""Measure the models of this folder in all formats, group sizes and quantisers: docs/accuracy.csv.

Each case is quantised, its weights are compared with the checkpoint's, held-out text is read with
them in float32, and the cycles of a token are predicted. A line for each goes to docs/accuracy.csv
as soon as it is known, and what is there is not measured again: remove lines to have them measured
anew. ``docs/accuracy.py`` makes the page.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from calibrate import calibrate
from corpus import held_out_text
from dims import CHECKPOINTS, SIZES
from safetensors.numpy import save_file

from lutra.formats import CATALOG, Family, family
from lutra.gen import EngineConfig, load_config
from lutra.gen.console import print_line, progress_bar
from lutra.gen.evaluation import Evaluation, evaluate_model
from lutra.quant import METHODS, Checkpoint, Method, Recipe, parse_options, quantize_file
from lutra.sim import LanguageTest
from lutra.sim.tiny_lm import load

__all__ = ["Case", "Measure", "Row", "cases", "counted", "main", "read_rows"]

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "accuracy.csv"
GROUP_SIZES = (32, 128)
WINDOWS = 64
# Loss of precision is what is measured here, so that of the scales is kept out of it.
SCALE_WIDTH = 8
# What the small and the large model are measured with; the middle one is with all there is.
OF_OTHERS = (
    "int2", "int3", "int3_asym", "int4", "int4_asym", "int6", "int8", "ternary", "bitmod3",
    "bitmod4", "float3_e1m1", "float3_e2m0", "float4_e2m1", "bcq2_asym", "bcq3_asym",
)  # fmt: skip

# As many weights as SqueezeLLM keeps apart.
OUTLIERS = "outliers=0.0045"
# What quantisers that learn are measured with: each layer takes them many passes.
OF_LEARNED = ("int2", "int3", "int4", "int2_asym", "int3_asym", "bitmod3", "bitmod4")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to quantise one of the models."""

    size: str
    format: str
    group_size: int
    method: str
    options: str = ""

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        """What is measured once."""
        return self.size, self.format, self.group_size, self.method, self.options

    @property
    def words(self) -> str:
        """The case for people."""
        how = ", ".join(filter(None, (self.method, self.options)))
        return f"{self.size}, {self.format}, group {self.group_size}, {how}"

    def recipe(self) -> Recipe:
        """Return how to quantise."""
        return Recipe(
            format=self.format,
            group_size=self.group_size,
            method=self.method,
            scale_width=SCALE_WIDTH,
            options=parse_options(self.method, METHODS[self.method].options, self.options.split()),
        )


@dataclass(frozen=True, kw_only=True)
class Row(Case):
    """A line of the table; a case, or a model in floating point, whose group size is 0.

    ``excess`` is the loss beyond that in floating point, with its standard error over the windows;
    ``sqnr_db`` and ``cycles`` are empty where there are none.
    """

    weights: int
    windows: int
    code_bits: float
    stored_bits: float
    sqnr_db: str
    loss: float
    excess: float
    excess_error: float
    perplexity: float
    kl: float
    cycles: str


def cases(size: str) -> Iterator[Case]:
    """Yield what a model is measured with: the middle one with all of the catalogue.

    Beyond four bits quantisers hardly differ, and only a format's own and clipping are taken.
    """
    for name in CATALOG if size == "medium" else OF_OTHERS:
        for group_size in GROUP_SIZES:
            for method in _methods(family(name)):
                for options in _options(method):
                    yield Case(
                        size=size,
                        format=name,
                        group_size=group_size,
                        method=method.name,
                        options=options,
                    )


def _methods(chosen: Family) -> list[Method]:
    serving = [method for method in METHODS.values() if method.serves(chosen)]
    if chosen.code_width > 4:
        return [method for method in serving if method.name in (serving[0].name, "mse")]
    return [
        method
        for method in serving
        if chosen.name in OF_LEARNED or not method.name.startswith("learned")
    ]


def _options(method: Method) -> Iterator[str]:
    """Yield a method's defaults, and what else is worth measuring of it."""
    known = {option.name: option for option in method.options}
    choices = known["weighting"].choices if "weighting" in known else ()
    weightings = [f"weighting={choice}" for choice in choices if choice != "none"]
    yield ""
    yield from weightings
    if "outliers" in known:
        yield OUTLIERS
        yield from (f"{weighting} {OUTLIERS}" for weighting in weightings)


def read_rows(path: Path = TABLE) -> list[Row]:
    """Read the table; no rows where there is none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        kinds = {field.name: field.type for field in fields(Row)}
        return [
            Row(**{name: kinds[name](value) for name, value in line.items()})  # type: ignore[operator]
            for line in csv.DictReader(file)
        ]


def main() -> None:
    """Measure what is missing in the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--formats", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--windows", type=int, default=WINDOWS, help=f"(default: {WINDOWS})")
    parser.add_argument("--config", default="small", help="engine of the cycles (default: small)")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument(
        "--recount",
        choices=("all", "cycles"),
        help="bits, SQNR and cycles of what is in the table, or cycles only, without reading text",
    )
    arguments = parser.parse_args()
    try:
        for size in arguments.sizes:
            if arguments.recount:
                recount(size, arguments)
            else:
                measure_size(size, arguments)
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        sys.exit(2)


def measure_size(size: str, arguments: argparse.Namespace) -> None:
    """Measure the missing cases of one model, each into the table at once."""
    known = {row.key for row in read_rows(arguments.table)}
    wanted = [
        case
        for case in cases(size)
        if case.key not in known
        and case.format in (arguments.formats or [case.format])
        and case.method in (arguments.methods or [case.method])
    ]
    path = _checkpoint(size)
    if not wanted or path is None:
        return
    test = LanguageTest(load(path), held_out_text(), arguments.windows or None)
    if (size, "float16", 0, "", "") not in known:
        _append(arguments.table, _float_row(size, test, Checkpoint(path)))
    with progress_bar() as progress, TemporaryDirectory() as folder:
        measure = Measure(size, load_config(arguments.config), Path(folder))
        for index, case in enumerate(wanted):
            progress(case.words, index / len(wanted))
            try:
                found = measure.evaluation(case, test)
            except ValueError as error:
                print_line(f"{case.words}: {error}")
                continue
            _append(arguments.table, measured_row(case, found))


def recount(size: str, arguments: argparse.Namespace) -> None:
    """Replace what does not depend on the text, for the cases of one model in the table."""
    wanted = [
        row
        for row in read_rows(arguments.table)
        if row.size == size
        and row.method
        and row.format in (arguments.formats or [row.format])
        and row.method in (arguments.methods or [row.method])
    ]
    if _checkpoint(size) is None:
        return
    found: dict[tuple, dict[str, Any]] = {}
    known: dict[tuple[str, int], dict[str, Any]] = {}
    with progress_bar() as progress, TemporaryDirectory() as folder:
        measure = Measure(size, load_config(arguments.config), Path(folder))
        for index, row in enumerate(wanted):
            progress(row.words, index / len(wanted))
            if arguments.recount == "all":
                found[row.key] = counted(measure.evaluation(row))
                continue
            chosen, place = family(row.format), (row.format, row.group_size)
            case: Case = row
            if len(chosen.members) == 1 and "outliers" not in row.options:
                # Cycles depend on shapes and formats, not on codes: any quantiser will do.
                if place in known:
                    found[row.key] = known[place]
                    continue
                case = replace(row, method=_methods(chosen)[0].name, options="")
            cycles = counted(measure.evaluation(case))["cycles"]
            found[row.key] = {"cycles": cycles}
            if case is not row:
                known[place] = found[row.key]
    # Read again: others may have added lines meanwhile.
    rows = [replace(row, **found.get(row.key, {})) for row in read_rows(arguments.table)]
    arguments.table.unlink()
    for row in rows:
        _append(arguments.table, row)


class Measure:
    """Quantises one model again and again.

    Parameters
    ----------
    size : str
        Which model.
    config : EngineConfig
        Engine of the predicted cycles.
    folder : Path
        For files.
    """

    def __init__(self, size: str, config: EngineConfig, folder: Path) -> None:
        self._checkpoint = HERE / CHECKPOINTS[size]
        self._config = config
        self._target = folder / "model.lutra.safetensors"
        self._calibration = folder / "calibration.safetensors"

    def evaluation(self, case: Case, test: LanguageTest | None = None) -> Evaluation:
        """Quantise and measure one case.

        Raises
        ------
        :exc:`ValueError`
            If it cannot be quantised so.
        """
        recipe = case.recipe()
        if recipe.needs_calibration and not self._calibration.exists():
            save_file(calibrate(load(self._checkpoint)), self._calibration)
        model = quantize_file(
            self._checkpoint,
            self._target,
            recipe,
            calibration=self._calibration if recipe.needs_calibration else None,
        )
        return evaluate_model(model, Checkpoint(self._checkpoint), test=test, config=self._config)


def counted(found: Evaluation) -> dict[str, Any]:
    """Return the columns that do not depend on a text."""
    return {
        "weights": found.weights,
        "code_bits": round(found.code_bits, 4),
        "stored_bits": round(found.stored_bits, 4),
        "sqnr_db": f"{found.error.sqnr_db:.3f}",
        "cycles": "" if found.cycles is None else str(found.cycles),
    }


def measured_row(case: Case, found: Evaluation) -> Row:
    """Return the line of a case that was measured with a text."""
    assert found.score is not None
    return Row(
        **asdict(case),
        **counted(found),
        windows=found.score.windows,
        loss=round(found.score.loss, 5),
        excess=round(found.score.excess, 5),
        excess_error=round(found.score.excess_error, 5),
        perplexity=round(found.score.perplexity, 5),
        kl=round(found.score.divergence, 6),
    )


def _checkpoint(size: str) -> Path | None:
    path = HERE / CHECKPOINTS[size]
    if not path.exists():
        print_line(f"{size}: {path.name} is not there; train.py --size {size} makes it")
        return None
    return path


def _float_row(size: str, test: LanguageTest, checkpoint: Checkpoint) -> Row:
    score = test.reference
    return Row(
        size=size,
        format="float16",
        group_size=0,
        method="",
        weights=sum(layer.weights.size for layer in checkpoint.layers()),
        windows=score.windows,
        code_bits=16.0,
        stored_bits=16.0,
        sqnr_db="",
        loss=round(score.loss, 5),
        excess=0.0,
        excess_error=0.0,
        perplexity=round(score.perplexity, 5),
        kl=0.0,
        cycles="",
    )


def _append(path: Path, row: Row) -> None:
    """Add a line; a table that is not there begins with the names of the columns."""
    begin = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if begin:
            writer.writeheader()
        writer.writerow(asdict(row))


if __name__ == "__main__":
    main()
