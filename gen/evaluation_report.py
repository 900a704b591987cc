"""Figures of evaluated models as a table, JSON, CSV and panels of a plot."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..quant import Checkpoint
from ..sim import LanguageTest
from .console import number, print_line, print_table
from .evaluation import Evaluation
from .pareto import pareto_front
from .plot import Panel, Series

__all__ = ["EvaluatedCase", "case_panels", "print_cases", "report_cases", "write_cases"]


@dataclass(frozen=True, kw_only=True)
class EvaluatedCase:
    """One way to quantise, and what came of it.

    Parameters
    ----------
    name : str
        Of the format, the recipe or the file.
    group_size, method : str
        Of a uniform recipe; empty for others.
    evaluation : Evaluation
        Its figures.
    """

    name: str
    group_size: str
    method: str
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return all figures but those of layers; what was not measured is None."""
        found, score = self.evaluation, self.evaluation.score
        return {
            "format": self.name,
            "group_size": self.group_size,
            "method": self.method,
            "weights": found.weights,
            "code_bits": found.code_bits,
            "stored_bits": found.stored_bits,
            "sqnr_db": _finite(found.error.sqnr_db),
            "loss": score and score.loss,
            "loss_excess": score and score.excess,
            "loss_excess_error": score and score.excess_error,
            "perplexity": score and score.perplexity,
            "kl": score and score.divergence,
            "cycles": found.cycles,
        }


def write_cases(path: Path, cases: Sequence[EvaluatedCase]) -> None:
    """Write a line for each case as CSV; what was not measured is empty."""
    rows = [case.to_dict() for case in cases]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def report_cases(
    checkpoint: Checkpoint, test: LanguageTest | None, cases: Sequence[EvaluatedCase]
) -> dict[str, Any]:
    """Return all figures as plain data, those of layers too."""
    reference = test and test.reference
    return {
        "checkpoint": str(checkpoint.path),
        "float": reference
        and {
            "loss": reference.loss,
            "perplexity": reference.perplexity,
            "windows": reference.windows,
            "characters": reference.characters,
        },
        "cases": [
            {
                **case.to_dict(),
                "layers": [
                    {
                        "layer": item.layer,
                        "rows": item.rows,
                        "columns": item.columns,
                        "code_bits": item.code_bits,
                        "stored_bits": item.stored_bits,
                        "sqnr_db": _finite(item.error.sqnr_db),
                        "cycles": item.cycles,
                    }
                    for item in case.evaluation.layers
                ],
            }
            for case in cases
        ],
    }


def print_cases(
    checkpoint: Checkpoint, test: LanguageTest | None, cases: Sequence[EvaluatedCase]
) -> None:
    """Print a line for each case; for a single one, its layers before that."""
    if len(cases) == 1:
        rows = [
            (
                item.layer,
                f"{item.rows} x {item.columns}",
                number(item.code_bits),
                number(item.stored_bits),
                _decibels(item.error.sqnr_db),
                "-" if item.cycles is None else f"{item.cycles:,}",
            )
            for item in cases[0].evaluation.layers
        ]
        columns = ("layer", "shape", "code bits", "stored bits", "SQNR in dB", "cycles")
        print_table(f"{cases[0].name}, layer by layer", columns, rows)
    rows = [_line(case, test) for case in cases]
    columns = ["format", "group", "method", "code bits", "stored bits", "SQNR in dB", "cycles"]
    if test is not None:
        columns += ["loss", "more than float", "perplexity", "KL"]
    print_table(f"{checkpoint.path}: {cases[0].evaluation.weights:,} weights", columns, rows)
    if test is not None:
        float_score = test.reference
        print_line(
            f"Text: {float_score.characters:,} characters in {float_score.windows} windows; loss "
            f"{float_score.loss:.4f} nats a character and perplexity "
            f"{float_score.perplexity:.4f} in floating point"
        )


def _line(case: EvaluatedCase, test: LanguageTest | None) -> list[str]:
    found = case.evaluation
    line = [
        case.name,
        case.group_size,
        case.method,
        number(found.code_bits),
        number(found.stored_bits),
        _decibels(found.error.sqnr_db),
        "-" if found.cycles is None else f"{found.cycles:,}",
    ]
    score = found.score
    if test is not None and score is not None:
        excess = f"{score.excess:+.4f} ± {score.excess_error:.4f}"
        line += [
            number(score.loss, 4),
            excess,
            number(score.perplexity, 4),
            f"{score.divergence:.4f}",
        ]
    return line


def _decibels(value: float) -> str:
    return number(value, 2) if math.isfinite(value) else "exact"


def case_panels(cases: Sequence[EvaluatedCase]) -> list[Panel]:
    """Plot the best measure of error that there is against bits, and against cycles if known."""
    scored = all(case.evaluation.score is not None for case in cases)
    y_label = "loss in nats a character" if scored else "noise of the weights in dB"
    panels = []
    for x_label, figure in (("stored bits a weight", "stored_bits"), ("cycles a token", "cycles")):
        rows = [(case, getattr(case.evaluation, figure), _height(case, scored)) for case in cases]
        known = [(case, x, y) for case, x, y in rows if x is not None and y is not None]
        if not known and figure == "cycles":
            continue
        points = [(x, y) for _, x, y in known]
        front = pareto_front(points)
        labels = [f"{case.name}, group {case.group_size}, {case.method}" for case, *_ in known]
        on_front = [points[index] for index in front]
        panels.append(
            Panel(
                title=f"{y_label} against {x_label}",
                x_label=x_label,
                y_label=y_label,
                series=(
                    Series(name="cases", points=points, labels=labels),
                    Series(
                        name="Pareto front",
                        points=on_front,
                        labels=[labels[index] for index in front],
                        joined=True,
                    ),
                ),
            )
        )
    return panels


def _height(case: EvaluatedCase, scored: bool) -> float | None:
    if scored and case.evaluation.score is not None:
        return case.evaluation.score.loss
    noise = _finite(case.evaluation.error.sqnr_db)
    return None if noise is None else -noise


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
