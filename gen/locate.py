"""Where two back ends part: the first intermediate that differs on the way to one output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import FLOATS, QuantizedMatrix
from ..sim import trace_output
from .backend import Backend, Progress
from .config import EngineConfig
from .differences import differing, output_bits
from .probe_rows import (
    Probe,
    activation_probes,
    code_probe,
    group_columns,
    plane_probe,
    row_of,
    silence,
)
from .probes import Prober, Seen

__all__ = ["Intermediate", "locate"]


@dataclass(frozen=True, kw_only=True)
class Intermediate:
    """The first intermediate that differs.

    Parameters
    ----------
    kind : str
        ``non-finite flag``, ``exponent``, ``aligned activation``, ``plane sum``, ``group sum``,
        ``row sum`` or ``output``; ``context`` where the row on its own gives equal outputs.
    where : str
        Which one of its kind, in words.
    place : dict of str to int
        The same for programs: those of ``column``, ``group``, ``first_column``, ``last_column``,
        ``plane``, ``coefficient`` and ``code`` that apply.
    expected : int, float or str or None
        What it is in the contract; of an output its bits. None for ``context``.
    observed : dict of str to int, float, str or None
        What each back end's outputs say that it is; None for what is not finite.
    signs : bool
        Whether the two differ only where each activation is replaced by its sign times the largest
        power of two in the token, which lets more digits through the conversion of the output.
    rounded : bool
        Whether the output type holds no more than the first digits of what was observed.
    """

    kind: str
    where: str = ""
    place: dict[str, int]
    expected: int | float | str | None
    observed: dict[str, Any]
    signs: bool = False
    rounded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": self.kind,
            "where": self.where,
            **self.place,
            "expected": self.expected,
            "observed": self.observed,
            "with_signs_only": self.signs,
            "rounded": self.rounded,
        }


def locate(
    config: EngineConfig,
    backends: Mapping[str, Backend],
    matrix: QuantizedMatrix,
    x: npt.NDArray,
    row: int,
    progress: Progress = lambda *_: None,
) -> Intermediate:
    """Find the first intermediate in which two back ends part, by running layers on them.

    Both get the same token with rows that let one part of the sum through: one activation, one
    group's planes one by one, one group, the first groups, all. The first of these in which they
    part is the answer. Nothing is asked of a back end but :meth:`Backend.run`.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    backends : mapping of str to Backend
        Two of them.
    matrix : QuantizedMatrix
        The layer.
    x : array of the activation type, shape (K,)
        The token.
    row : int
        Row of the output in which they differ.
    progress : callable, optional
        Told in a few words what is being done.

    Returns
    -------
    Intermediate

    Raises
    ------
    :exc:`EngineError`
        If an engine stops or does not answer.
    """
    single = row_of(matrix, row)
    trace = trace_output(matrix, config.parameters.numerics, x, row)
    if trace.nonfinite:
        return _nonfinite(backends, single, x)
    prober = Prober(config, backends, x)
    progress("looking for the difference: the row alone", 0.0)
    outputs, golden = prober.outputs(single)
    one, other = outputs.values()
    copies = np.flatnonzero(differing(one, other)[0])
    if not len(copies):
        return Intermediate(kind="context", place={}, expected=None, observed={})
    if isinstance(golden, tuple) and one[1][0] != other[1][0]:
        observed = {name: int(part[1][0]) for name, part in outputs.items()}
        return Intermediate(kind="exponent", place={}, expected=trace.exponent, observed=observed)
    search = _Search(config, prober, single)
    for number, stage in enumerate((search.activation, search.group, search.row)):
        progress(f"looking for the difference: {stage.__name__}s", (1 + number) / 4)
        found = stage()
        if found is not None:
            return found
    copy = int(copies[0])
    return Intermediate(
        kind="output",
        where=f"from the row sum {trace.total}, exponent {trace.exponent}",
        place={},
        expected=output_bits(golden, 0, copy),
        observed={name: output_bits(part, 0, copy) for name, part in outputs.items()},
    )


class _Search:
    """The stages of a search for one row."""

    def __init__(self, config: EngineConfig, prober: Prober, row: QuantizedMatrix) -> None:
        self._members = config.parameters.layout.members
        self._prober = prober
        self._row = row
        # Of the token, and of its signs.
        self._traces = tuple(trace_output(row, prober.numerics, x, 0) for x in prober.tokens)

    def activation(self) -> Intermediate | None:
        """Look at every aligned activation."""
        made = activation_probes(self._row, self._members)
        if made is None:
            return None
        columns = range(self._row.columns)
        # Lanes share activations: what only one of them gets wrong is a fault of that lane.
        found = self._confirmed(
            [[of_column(column) for column in columns] for of_column in made],
            lambda seen: 0,
            copies=2,
            in_all=True,
        )
        if found is None:
            return None
        column, seen, observed = found
        expected = self._traces[seen.token].activations[column]
        where, place = f"of column {column}", {"column": column}
        return _intermediate("aligned activation", where, place, seen, expected, observed)

    def group(self) -> Intermediate | None:
        """Look at every group's share, and into the first that differs."""
        count = self._row.groups
        rows = [silence(self._row, {*range(count)} - {group}) for group in range(count)]
        seen = next(self._prober.differences(rows, copies=self._prober.all_lanes), None)
        if seen is None:
            return None
        group = seen.index
        within = self._plane(group) or self._code(group)
        if within is not None:
            return within
        where, place = f"of {self._name(group)}", self._place(group)
        expected = self._traces[seen.token].groups[group].total
        return _intermediate("group sum", where, place, seen, expected, seen.sums)

    def row(self) -> Intermediate | None:
        """Look at the sum of the first group, the first two, and so on."""
        count = self._row.groups
        rows = [silence(self._row, range(end, count)) for end in range(1, count + 1)]
        seen = next(self._prober.differences(rows, copies=self._prober.all_lanes), None)
        if seen is None:
            return None
        where, place = f"after {self._name(seen.index)}", self._place(seen.index)
        return _intermediate("row sum", where, place, seen, seen.expected, seen.sums)

    def _plane(self, group: int) -> Intermediate | None:
        """Look at every plane sum of a group."""
        planes = self._row.members[self._row.format_ids[0, group]].planes
        # What differs beyond the digits, such as an offset's plane, has no probe.
        numbers = [n for n in range(len(planes)) if plane_probe(self._row, group, n) is not None]
        found = self._confirmed(
            [
                [plane_probe(self._row, group, number, second=second) for number in numbers]
                for second in (False, True)
            ],
            lambda seen: self._traces[seen.token].groups[group].activations,
            copies=self._prober.all_lanes,
        )
        if found is None:
            return None
        index, seen, observed = found
        plane, coefficient = numbers[index], planes[numbers[index]].coefficient
        expected = self._traces[seen.token].groups[group].planes[plane]
        where = f"of plane {plane}, coefficient {coefficient}, of {self._name(group)}"
        place = self._place(group) | {"plane": plane, "coefficient": coefficient}
        return _intermediate("plane sum", where, place, seen, expected, observed)

    def _code(self, group: int) -> Intermediate | None:
        """Look at the activations of every code of a group, times what the code weighs."""
        codes = np.unique(self._row.codes[0, group_columns(self._row, group)]).tolist()
        found = self._confirmed(
            [
                [code_probe(self._row, group, code, second=second) for code in codes]
                for second in (False, True)
            ],
            lambda seen: 0,
            copies=self._prober.all_lanes,
        )
        if found is None:
            return None
        index, seen, observed = found
        where = f"of all planes of code {codes[index]} in {self._name(group)}"
        place = self._place(group) | {"code": codes[index]}
        return _intermediate("plane sum", where, place, seen, seen.expected, observed)

    def _confirmed(
        self,
        ways: Sequence[Sequence[Probe | None]],
        activations: Callable[[Seen], int],
        *,
        copies: int,
        in_all: bool = False,
    ) -> tuple[int, Seen, dict[str, Fraction | None]] | None:
        """Return the first intermediate that is wrong, and equally so, whichever way one looks.

        A weight or a scale that is wrong makes different numbers of it in two ways.
        """
        first, second = ([probe for probe in way if probe is not None] for way in ways)
        if not first:
            return None
        options = {"copies": copies, "in_all": in_all}
        for seen in self._prober.differences([probe.row for probe in first], **options):
            index = seen.index
            again = next(self._prober.differences([second[index].row], **options), None)
            if again is None:
                return None
            values, others = (
                {
                    name: None if total is None else probe.value(total, activations(part))
                    for name, total in part.sums.items()
                }
                for probe, part in ((first[index], seen), (second[index], again))
            )
            return (index, seen, values) if values == others else None
        return None

    def _name(self, group: int) -> str:
        columns = group_columns(self._row, group)
        return f"group {group} (columns {columns.start} to {columns.stop - 1})"

    def _place(self, group: int) -> dict[str, int]:
        columns = group_columns(self._row, group)
        return {"group": group, "first_column": columns.start, "last_column": columns.stop - 1}


def _intermediate(
    kind: str,
    where: str,
    place: dict[str, int],
    seen: Seen,
    expected: int,
    sums: Mapping[str, Fraction | None],
) -> Intermediate:
    observed = {name: None if total is None else _number(total) for name, total in sums.items()}
    return Intermediate(
        kind=kind,
        where=where,
        place=place,
        expected=expected,
        observed=observed,
        signs=seen.token == 1,
        rounded=not seen.exact,
    )


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def _nonfinite(
    backends: Mapping[str, Backend], row: QuantizedMatrix, x: npt.NDArray
) -> Intermediate:
    """Tell a token that was not flagged from one whose outputs are another NaN."""
    column = int(np.flatnonzero(~np.isfinite(x.astype(np.float64)))[0])
    outputs = {name: item.run(row, x[None]).outputs for name, item in backends.items()}
    observed = {name: output_bits(part, 0, 0) for name, part in outputs.items()}
    if len(set(observed.values())) == 1:
        return Intermediate(kind="context", place={}, expected=None, observed={})
    all_nan = all(np.isnan(part.astype(np.float64)).all() for part in outputs.values())
    kind = next(iter(outputs.values())).dtype.name
    quiet = FLOATS[kind].quiet_nan
    return Intermediate(
        kind="output" if all_nan else "non-finite flag",
        where=f"of a token whose column {column} is {x[column]!s}",
        place={"column": column},
        expected=f"0x{quiet:0{FLOATS[kind].width // 4}x}",
        observed=observed,
    )
