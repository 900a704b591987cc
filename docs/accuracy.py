"""Write ``docs/accuracy.md`` and its plots from the table of measurements, ``docs/accuracy.csv``.

Run ``.venv/bin/python docs/accuracy.py``. ``examples/tinylm/evaluate.py`` makes the table; nothing
is measured here, and the same table gives the same page.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lutra.gen.pareto import pareto_front
from lutra.gen.plot import Panel, Series, draw
from lutra.quant import ScalingLaw

PAGE = Path(__file__).with_suffix(".md")
TABLE = Path(__file__).with_suffix(".csv")
SIZES = ("small", "medium", "large")
GROUP_SIZES = (32, 128)
# Nats above floating point from which on a case is in no plot.
WORST = 0.5
# Of those that serve a format, what it is compared by where quantisers are not the question.
PLAIN = ("absmax", "alternating", "minmax")


class Row(NamedTuple):
    """A line of the table: one model, quantised in one way."""

    size: str
    format: str
    group_size: int
    method: str
    options: str
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
    cycles: int | None

    @property
    def how(self) -> str:
        """Quantiser and its options."""
        return f"{self.method}, {self.options}" if self.options else self.method

    @property
    def label(self) -> str:
        """What a reader finds the row by."""
        return f"{self.format}, group {self.group_size}, {self.how}"


Figure = Callable[[Row], float | None]
"""A row's place on an axis, where it has one."""


class Claim(NamedTuple):
    """That one way to quantise loses less than another, wherever both were measured.

    A side is format, method and options; a method of "*" is the plainest that serves the format.
    """

    text: str
    better: tuple[str, str, str]
    worse: tuple[str, str, str]


_HEADING = """\
# Accuracy

<!-- Made by docs/accuracy.py from docs/accuracy.csv. Edit those, not this. -->

What formats, group sizes and quantisers do to a language model: the character models of
[examples/tinylm](../examples/tinylm/README.md), quantised after training and read on text that they
have not been trained on. Every layer has one format, all scales have 8 magnitude bits unless a
format's own scales are wider. These are models of a few million parameters that predict characters
of Python source; orderings among formats may carry over to others, losses do not.

    python examples/tinylm/evaluate.py   # measures what is missing in docs/accuracy.csv
    python docs/accuracy.py              # writes this page and its plots
    lutra evaluate examples/tinylm/tinylm.safetensors --format int4,bitmod4 --text FILE

- *loss*: mean negative log likelihood of a character in nats; its exponential is the *perplexity*.
- *excess*: what of the loss is not in that of the model in floating point, with its standard error
  over the windows of text. Which of two losses is less is called unclear below where they differ by
  less than two standard errors of their difference, taken as if they did not correlate; they do,
  which makes this cautious.
- *KL*: mean divergence, in nats a character, of what is predicted from what is predicted in
  floating point.
- *SQNR*: squares of all weights over squares of their errors, in decibels.
- *stored bits*: all that the model file holds for a weight, with scales, zero-points and format
  ids. Row scales and groups weigh more here than in wider layers.
- *cycles*: of the preset `small` made for the one format, predicted by the cycle model, all layers
  for one token. Empty where no engine runs the format.

Products are those of the quantised weights in float32: an engine's own rounding of activations is
left out.
"""

_MODELS = """\
## Models

The large model had 879 short steps of training, a tenth of the text that the others saw: neither
its loss nor what rounding adds to it says what its size can do.
[How to train it](../examples/tinylm/README.md#figures).
"""

_CLAIMS = """\
## Orderings

What the authors of formats and quantisers say, or what one would expect, against what was measured
here: for each model and group size the verdict, the excess of the first, that of the second, and
how much larger the first one's KL is, which varies less from text to text.
*Holds* and *does not* mean a difference of two standard errors or more. Where no quantiser is
named, both are rounded to nearest with the largest weight of a group in range.
"""

_FOUR_BITS = """\
## Four bits against floating point

The least loss of each format of 4 code bits, and by how much of the loss in floating point it is
larger.
"""

_LAYOUTS = """\
## Layouts of floating point

The scaling law that `lutra advise` calculates orders the exponent and mantissa bits of a width for
training in it, and says itself that it is not about quantising after training. Its order beside the
measured one of the middle model, groups of 32, rounded to nearest:
"""
_PLOTS = """\
## Bits and cycles

Every case of the middle model that is no worse than a loss of 0.5 nats above floating point, and
the Pareto front: those that no other beats in both; below that the same with KL, on a logarithmic
axis. Point at a dot in the SVG to see what it is.

![loss against stored bits](accuracy-bits.svg)

![loss against predicted cycles](accuracy-cycles.svg)
"""

_SCALING = """\
## Models of several sizes

Whether to spend a bit on a larger model or on a finer format: the loss against all bits of the
quantised layers, parameters times stored bits. Of each size its own Pareto front, within 0.5 nats
of floating point; the last column says what is left when all sizes compete.

![loss against total bits](accuracy-scaling.svg)
"""

_ALL = """\
## All measurements
"""

_AGAINST = "**does not**"
_SPECIAL = "Special values for each group"
_CLIPPING = "Clipping to the least squared error beats scaling to the largest weight"
_WEIGHTING = "Weighting errors by the inputs' mean squares beats counting all alike"
_FEEDBACK = "Making up for errors in later columns (GPTQ) beats clipping alone"
_LEARNING = "Clipping learned from a layer's outputs (OmniQuant) beats the least squared error"
_ROUNDING = "Rounding learned from a layer's outputs (AdaRound) beats rounding to nearest"
_CLAIMED = (
    Claim(
        f"{_SPECIAL} beat zero-points, 3 bits (BitMoD)",
        ("bitmod3", "*", ""),
        ("int3_asym", "*", ""),
    ),
    Claim("... both clipped", ("bitmod3", "mse", ""), ("int3_asym", "mse", "")),
    Claim("... both with error feedback", ("bitmod3", "gptq", ""), ("int3_asym", "gptq", "")),
    Claim(
        f"{_SPECIAL} beat FP3 without, 3 bits (BitMoD)",
        ("bitmod3", "*", ""),
        ("float3_e2m0", "*", ""),
    ),
    Claim("... 4 bits", ("bitmod4", "*", ""), ("float4_e2m1", "*", "")),
    Claim("... beat zero-points, 4 bits (BitMoD)", ("bitmod4", "*", ""), ("int4_asym", "*", "")),
    Claim("FP4 beats INT4 (LLM-FP4)", ("float4_e2m1", "*", ""), ("int4", "*", "")),
    Claim(
        "E2M1 beats E1M2 (the scaling law's order, though it is of training)",
        ("float4_e2m1", "*", ""),
        ("float4_e1m2", "*", ""),
    ),
    Claim("E2M1 beats E3M0 (the same)", ("float4_e2m1", "*", ""), ("float4_e3m0", "*", "")),
    Claim("E1M1 beats E2M0, 3 bits (the same)", ("float3_e1m1", "*", ""), ("float3_e2m0", "*", "")),
    Claim("NF4 beats FP4 (QLoRA)", ("nf4", "*", ""), ("float4_e2m1", "*", "")),
    Claim("Squares beat integers, 4 bits (PowerQuant)", ("power4", "*", ""), ("int4", "*", "")),
    Claim(
        "A choice of types for each group beats FP4 (ANT)",
        ("ant4", "*", ""),
        ("float4_e2m1", "*", ""),
    ),
    Claim("A special value beats FP4 (RaZeR)", ("razer4", "*", ""), ("float4_e2m1", "*", "")),
    Claim("Zero-points help, 3 bits", ("int3_asym", "*", ""), ("int3", "*", "")),
    Claim("... 4 bits", ("int4_asym", "*", ""), ("int4", "*", "")),
    Claim(
        "Fractional zero-points beat integer ones, 3 bits",
        ("int3_affine", "*", ""),
        ("int3_asym", "*", ""),
    ),
    Claim(
        "Scales of their own for signs beat integers, 3 bits (LUT-GEMM)",
        ("bcq3_asym", "*", ""),
        ("int3_asym", "*", ""),
    ),
    Claim(f"{_CLIPPING}, int2", ("int2", "mse", ""), ("int2", "absmax", "")),
    Claim("... int3", ("int3", "mse", ""), ("int3", "absmax", "")),
    Claim("... int4", ("int4", "mse", ""), ("int4", "absmax", "")),
    Claim("... bitmod3", ("bitmod3", "mse", ""), ("bitmod3", "absmax", "")),
    Claim(f"{_WEIGHTING}, int3", ("int3", "mse", "weighting=activation"), ("int3", "mse", "")),
    Claim("... bitmod3", ("bitmod3", "mse", "weighting=activation"), ("bitmod3", "mse", "")),
    Claim(f"{_FEEDBACK}, int2", ("int2", "gptq", ""), ("int2", "mse", "")),
    Claim("... int3", ("int3", "gptq", ""), ("int3", "mse", "")),
    Claim("... int4", ("int4", "gptq", ""), ("int4", "mse", "")),
    Claim("... bitmod3", ("bitmod3", "gptq", ""), ("bitmod3", "mse", "")),
    Claim("... bitmod4", ("bitmod4", "gptq", ""), ("bitmod4", "mse", "")),
    Claim(
        "A few weights kept beside a codebook (0.45 %, SqueezeLLM) beat the codebook alone, 3 bits",
        ("free3", "kmeans", "outliers=0.0045"),
        ("free3", "kmeans", ""),
    ),
    Claim(
        "... both weighted by the inputs",
        ("free3", "kmeans", "weighting=activation outliers=0.0045"),
        ("free3", "kmeans", "weighting=activation"),
    ),
    Claim(f"{_LEARNING}, int2", ("int2", "learned_clipping", ""), ("int2", "mse", "")),
    Claim("... int3", ("int3", "learned_clipping", ""), ("int3", "mse", "")),
    Claim("... int3_asym", ("int3_asym", "learned_clipping", ""), ("int3_asym", "mse", "")),
    Claim("... bitmod3", ("bitmod3", "learned_clipping", ""), ("bitmod3", "mse", "")),
    Claim(f"{_ROUNDING}, int2", ("int2", "learned_rounding", ""), ("int2", "mse", "")),
    Claim("... int3", ("int3", "learned_rounding", ""), ("int3", "mse", "")),
    Claim("... bitmod3", ("bitmod3", "learned_rounding", ""), ("bitmod3", "mse", "")),
)


def page(rows: Sequence[Row]) -> str:
    """Return the page's text."""
    parts = [_HEADING, _MODELS, _models(rows), _CLAIMS, _claims(rows), _FOUR_BITS]
    parts += [
        _four_bits(rows),
        _LAYOUTS,
        _layouts(rows),
        _PLOTS,
        _front_table(rows),
        _SCALING,
        _scaling_table(rows),
        _ALL,
    ]
    for size in SIZES:
        mine = [row for row in rows if row.size == size and row.method]
        if mine:
            parts += [f"### {size.capitalize()}\n", _all(mine)]
    return "\n".join(parts)


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """Return the SVG files by name."""
    return {
        "accuracy-bits.svg": draw(_against(rows, "stored bits a weight", _stored_bits)),
        "accuracy-cycles.svg": draw(_against(rows, "cycles a token", _cycles)),
        "accuracy-scaling.svg": draw([_scaling_panel(rows)]),
    }


def read() -> list[Row]:
    """Read the table."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> Row:
    return Row(
        size=line["size"],
        format=line["format"],
        group_size=int(line["group_size"]),
        method=line["method"],
        options=line["options"],
        weights=int(line["weights"]),
        windows=int(line["windows"]),
        code_bits=float(line["code_bits"]),
        stored_bits=float(line["stored_bits"]),
        sqnr_db=line["sqnr_db"],
        loss=float(line["loss"]),
        excess=float(line["excess"]),
        excess_error=float(line["excess_error"]),
        perplexity=float(line["perplexity"]),
        kl=float(line["kl"]),
        cycles=int(line["cycles"]) if line["cycles"] else None,
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _in_float(rows: Iterable[Row], size: str) -> Row | None:
    return next((row for row in rows if row.size == size and not row.method), None)


def _models(rows: Sequence[Row]) -> str:
    found = [row for size in SIZES if (row := _in_float(rows, size))]
    columns = ("model", "weights in quantised layers", "windows", "loss", "perplexity")
    return _table(
        columns,
        (
            (row.size, f"{row.weights:,}", str(row.windows), f"{row.loss:.4f}", _p(row.perplexity))
            for row in found
        ),
    )


def _p(perplexity: float) -> str:
    return f"{perplexity:.4f}"


def _find(rows: Iterable[Row], side: tuple[str, str, str]) -> Row | None:
    """Return the row of one side among those of a size and a group size."""
    name, method, options = side
    for row in rows:
        fits = row.method in PLAIN if method == "*" else row.method == method
        if row.format == name and fits and row.options == options:
            return row
    return None


def _claims(rows: Sequence[Row]) -> str:
    places = [(size, group) for size in SIZES for group in GROUP_SIZES]
    by_place = {
        place: [row for row in rows if (row.size, row.group_size) == place] for place in places
    }
    shown = [place for place in places if len(by_place[place]) > 1]
    lines: list[Sequence[str]] = []
    verdicts: list[str] = []
    against: list[str] = []
    name = ""
    for claim in _CLAIMED:
        # Claims that go on from the one before are called by its name, too.
        name = name if claim.text.startswith("...") else claim.text
        cells = []
        for place in shown:
            better = _find(by_place[place], claim.better)
            worse = _find(by_place[place], claim.worse)
            if better is None or worse is None:
                cells.append("")
                continue
            verdicts.append(_verdict(better, worse))
            cells.append(
                f"{verdicts[-1]}: {better.excess:.4f}, {worse.excess:.4f}; "
                f"KL {100 * (better.kl / worse.kl - 1):+.0f} %"
            )
        if any(cells):
            lines.append((claim.text, *cells))
        if any(cell.startswith(_AGAINST) for cell in cells):
            against.append(claim.text if claim.text == name else f"{name} {claim.text}")
    counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    columns = ("claim", *(f"{size}, {group}" for size, group in shown))
    contradicted = "".join(f"- {text}\n" for text in against) or "- none\n"
    return (
        f"Of {len(verdicts)} comparisons: {summary}. Contradicted somewhere:\n\n{contradicted}\n"
        f"{_table(columns, lines)}"
    )


def _verdict(better: Row, worse: Row) -> str:
    error = math.hypot(better.excess_error, worse.excess_error)
    if abs(worse.loss - better.loss) < 2 * error:
        return "unclear"
    return "holds" if better.loss < worse.loss else _AGAINST


def _four_bits(rows: Sequence[Row]) -> str:
    lines: list[Sequence[str]] = []
    for size in SIZES:
        reference = _in_float(rows, size)
        best: dict[str, Row] = {}
        for row in rows:
            if row.size == size and row.method and row.code_bits == 4:
                best[row.format] = min(best.get(row.format, row), row, key=_loss)
        lines += [
            (
                size,
                f"`{row.format}`",
                str(row.group_size),
                row.how,
                f"{row.stored_bits:.3f}",
                f"{row.loss:.4f}",
                f"{100 * row.excess / reference.loss:+.2f} %",
                "yes" if row.excess <= 0.005 * reference.loss else "no",
            )
            for row in sorted(best.values(), key=_loss)
            if reference
        ]
    columns = ("model", "format", "group", "quantiser", "stored bits", "loss", "more", "0.5 %?")
    return _table(columns, lines)


def _layouts(rows: Sequence[Row]) -> str:
    plain = {
        row.format: row
        for row in rows
        if (row.size, row.group_size) == ("medium", 32) and row.method in PLAIN
    }
    lines: list[Sequence[str]] = []
    for bits in range(3, 9):
        names = {
            str(layout): f"float{bits}_{str(layout).lower()}" for layout in ScalingLaw.layouts(bits)
        }
        measured = {layout: plain[name] for layout, name in names.items() if name in plain}
        if len(measured) > 1:
            found = sorted(measured, key=lambda layout: measured[layout].kl)
            lines.append((
                str(bits),
                ", ".join(measured),
                ", ".join(f"{layout} {measured[layout].kl:.5f}" for layout in found),
            ))
    return _table(("bits", "by the law, best first", "by KL here, best first"), lines)


def _loss(row: Row) -> float:
    return row.loss


def _kl(row: Row) -> float:
    return row.kl


def _stored_bits(row: Row) -> float | None:
    return row.stored_bits


def _cycles(row: Row) -> float | None:
    return row.cycles


def _shown(rows: Sequence[Row]) -> list[Row]:
    """Return the cases of the middle model that are worth a dot."""
    return [row for row in rows if row.size == "medium" and row.method and row.excess < WORST]


def _against(rows: Sequence[Row], label: str, figure: Figure) -> list[Panel]:
    """Draw loss and KL over a figure, with a front for each."""
    shown = [row for row in _shown(rows) if figure(row) is not None]
    kinds = {
        "integers": [row for row in shown if row.format.startswith("int")],
        "floats": [row for row in shown if row.format.startswith("float")],
        "BitMoD": [row for row in shown if row.format.startswith("bitmod")],
        "binary coding": [row for row in shown if row.format.startswith("bcq")],
    }
    taken = {row.label for members in kinds.values() for row in members}
    kinds["others"] = [row for row in shown if row.label not in taken]
    panels = []
    heights: tuple[tuple[str, Figure], ...] = (
        ("loss in nats a character", _loss),
        ("KL in nats a character", _kl),
    )
    for y_label, height in heights:
        front = _front(shown, figure, height)
        panels.append(
            Panel(
                title=f"Middle model: {y_label} against {label}",
                x_label=label,
                y_label=y_label,
                series=[
                    *(_dots(name, members, figure, height) for name, members in kinds.items()),
                    _dots("Pareto front", front, figure, height, joined=True),
                ],
                y_log=height is _kl,
            )
        )
    return panels


def _dots(
    name: str, rows: Sequence[Row], figure: Figure, height: Figure, *, joined: bool = False
) -> Series:
    points = [(figure(row) or 0.0, height(row) or 0.0) for row in rows]
    return Series(name=name, points=points, labels=[row.label for row in rows], joined=joined)


def _front(rows: Sequence[Row], figure: Figure, height: Figure) -> list[Row]:
    points = [(figure(row) or 0.0, height(row) or 0.0) for row in rows]
    return [rows[index] for index in pareto_front(points)]


def _front_table(rows: Sequence[Row]) -> str:
    shown = _shown(rows)
    in_bits = {row.label for row in _front(shown, _stored_bits, _loss)}
    timed = [row for row in shown if row.cycles is not None]
    in_cycles = {row.label for row in _front(timed, _cycles, _loss)}
    lines = (
        (
            f"`{row.format}`",
            str(row.group_size),
            row.how,
            f"{row.stored_bits:.3f}",
            _number(row.cycles),
            f"{row.loss:.4f}",
            "yes" if row.label in in_bits else "",
            "yes" if row.label in in_cycles else "",
        )
        for row in sorted(shown, key=lambda row: (row.stored_bits, row.loss))
        if row.label in in_bits | in_cycles
    )
    columns = ("format", "group", "quantiser", "stored bits", "cycles", "loss", "bits", "cycles")
    return "On a front, for bits or for cycles:\n\n" + _table(columns, lines)


def _own_front(rows: Sequence[Row], size: str) -> list[Row]:
    """Return the cases of a size that no other of it beats in bits and loss."""
    mine = [row for row in rows if row.size == size and row.method and row.excess < WORST]
    return _front(mine, _total_bits, _loss)


def _total_bits(row: Row) -> float:
    return row.weights * row.stored_bits


def _scaling_panel(rows: Sequence[Row]) -> Panel:
    series = []
    for size in SIZES:
        best = _own_front(rows, size)
        if best:
            series.append(
                Series(
                    name=size,
                    points=[(_total_bits(row) / 1e6, row.loss) for row in best],
                    labels=[row.label for row in best],
                    joined=True,
                )
            )
    return Panel(
        title="Loss against all bits of the quantised layers",
        x_label="megabits",
        y_label="loss in nats a character",
        series=series,
        x_log=True,
    )


def _scaling_table(rows: Sequence[Row]) -> str:
    every = [row for size in SIZES for row in _own_front(rows, size)]
    front = {row.label + row.size for row in _front(every, _total_bits, _loss)}
    lines = (
        (
            row.size,
            f"{row.code_bits:g}",
            f"`{row.format}`",
            str(row.group_size),
            row.how,
            f"{_total_bits(row) / 1e6:.2f}",
            f"{row.loss:.4f}",
            "yes" if row.label + row.size in front else "",
        )
        for row in sorted(every, key=_total_bits)
    )
    columns = ("model", "code bits", "format", "group", "quantiser", "megabits", "loss", "of all")
    return _table(columns, lines)


def _all(rows: Sequence[Row]) -> str:
    columns = (
        *("format", "group", "quantiser", "code bits", "stored bits", "SQNR", "loss", "excess"),
        *("perplexity", "KL", "cycles"),
    )
    ordered = sorted(rows, key=lambda row: (row.code_bits, row.format, row.group_size, row.how))
    return _table(
        columns,
        (
            (
                f"`{row.format}`",
                str(row.group_size),
                row.how,
                f"{row.code_bits:.3g}",
                f"{row.stored_bits:.3f}",
                f"{float(row.sqnr_db):.2f}" if row.sqnr_db else "",
                f"{row.loss:.4f}",
                f"{row.excess:+.4f} ± {row.excess_error:.4f}",
                _p(row.perplexity),
                f"{row.kl:.5f}",
                _number(row.cycles),
            )
            for row in ordered
        ),
    )


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


if __name__ == "__main__":
    measured = read()
    PAGE.write_text(page(measured), encoding="utf-8")
    for name, text in plots(measured).items():
        PAGE.with_name(name).write_text(text, encoding="utf-8")
