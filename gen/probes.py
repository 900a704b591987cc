"""Probing two back ends with rows of weights, and reading sums out of what they return."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import FLOATS, Numerics, QuantizedMatrix
from ..sim import GoldenModel, convert_output
from .backend import Backend
from .config import EngineConfig
from .differences import differing
from .probe_rows import stack_rows

__all__ = ["Prober", "Seen", "sign_token"]

_ROWS = 256  # of a probing layer: enough to be quick, few enough for slow simulators


@dataclass(frozen=True)
class Seen:
    """A row in which two back ends part.

    Parameters
    ----------
    index : int
        Which of the rows.
    token : int
        0 for the token itself, 1 for its signs.
    expected : int
        The exact sum.
    sums : dict of str to Fraction or None
        The sum that each back end's output stands for; None if that is not finite.
    exact : bool
        Whether the output type holds the exact sum, so that nothing is rounded.
    """

    index: int
    token: int
    expected: int
    sums: dict[str, Fraction | None]
    exact: bool


class Prober:
    """Two back ends, one token, and the rows of weights that it is multiplied with.

    Rows are given a power of two as their scale, so that small sums come through the conversion of
    the output as they are. A difference counts if the sum does, or if it is larger than rounding
    explains; so faults of the conversion do not pass for faults of a sum.

    Beside the token itself its *signs* are used: 0 and plus and minus the largest power of two in
    it. Their exponent is the same, and sums of them have so many trailing zeros that whole rows
    come through.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    backends : mapping of str to Backend
        Two of them.
    x : array of the activation type, shape (K,)
        The token, finite.
    """

    def __init__(
        self, config: EngineConfig, backends: Mapping[str, Backend], x: npt.NDArray
    ) -> None:
        self.numerics: Numerics = config.parameters.numerics
        self.tokens = np.stack([x, sign_token(x)])
        self._backends = backends
        layout = config.parameters.layout
        self.all_lanes = min(layout.lanes, layout.max_rows)
        self._rows = min(layout.max_rows, max(_ROWS, self.all_lanes))

    def outputs(self, row: QuantizedMatrix) -> tuple[dict[str, Any], Any]:
        """Run a row as it is, once in each lane, on the token.

        Returns
        -------
        dict of str to array, shape (1, copies)
            What each back end returns.
        array, shape (1, copies)
            What it ought to be.
        """
        layer, x = stack_rows([row], self.all_lanes), self.tokens[:1]
        golden = GoldenModel(layer, self.numerics).run(x)
        return {name: item.run(layer, x).outputs for name, item in self._backends.items()}, golden

    def differences(
        self, rows: Sequence[QuantizedMatrix], *, copies: int, in_all: bool = False
    ) -> Iterator[Seen]:
        """Yield the rows in which the two part, in order, running a part of them at a time.

        Parameters
        ----------
        rows : sequence of QuantizedMatrix
            Rows of equal formats and columns.
        copies : int
            How often each row is in the layer, next to itself and so in other lanes.
        in_all : bool
            Take a row only if they part in all of its copies, not in a single one: for what all
            lanes share.
        """
        copies = min(copies, self._rows)
        at_once = self._rows // copies
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            hits = self._hits(stack_rows(some, copies))
            for index in range(len(some)):
                places = [(token, index * copies + c) for token in (0, 1) for c in range(copies)]
                found = [hits[place] for place in places if place in hits]
                if len(found) >= (copies if in_all else 1):
                    yield replace(min(found, key=lambda hit: not hit.exact), index=start + index)

    def _hits(self, layer: QuantizedMatrix) -> dict[tuple[int, int], Seen]:
        """Return what counts, by token and row."""
        sums, exponent, flagged = GoldenModel(layer, self.numerics).sums(self.tokens)
        powers = self._scale_powers(sums, exponent)
        layer = replace(layer, row_scales=np.ldexp(np.float32(1), powers).astype(np.float32))
        outputs = {n: item.run(layer, self.tokens).outputs for n, item in self._backends.items()}
        golden: Any = (sums, exponent)
        if self.numerics.output != "int":
            kind = self.numerics.output
            golden = convert_output(sums, exponent, layer.row_scales, kind, flagged)
        one, other = outputs.values()
        hits = {}
        for token, row in np.argwhere(differing(one, other)).tolist():
            step = int(exponent[token]) + int(powers[row])
            seen = {n: _sum_of(part, token, row, step) for n, part in outputs.items()}
            exact, expected = _sum_of(golden, token, row, step), int(sums[token, row])
            hit = Seen(row, token, expected, seen, exact == expected)
            if exact is not None and self._counts(hit):
                hits[token, row] = hit
        # A share of a step may be left over from an activation that was not rounded. Signs have
        # nothing to round: where they have such a share, it comes from the output's conversion.
        return {
            (token, row): hit
            for (token, row), hit in hits.items()
            if (_is_whole(hit) and _is_whole(hits.get((1, row)))) or (1, row) not in hits
        }

    def _scale_powers(
        self, sums: npt.NDArray[np.int64], exponent: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int32]:
        """Return the powers of two, (N,), that keep each row's outputs within the type's range."""
        room = 15 if self.numerics.output == "float16" else 64
        lengths = np.array([int(peak).bit_length() for peak in np.abs(sums).max(axis=0)])
        powers = -int(exponent[0]) - np.maximum(lengths - room, 0)
        return np.clip(powers, -126, 127).astype(np.int32)

    def _counts(self, hit: Seen) -> bool:
        """Whether a difference is one of the sums, and not of what becomes of them."""
        one, other = hit.sums.values()
        if one == other:  # zeros of both signs, kinds of NaN
            return False
        if hit.exact or one is None or other is None:
            return True
        # Rounded in any direction, a result is within a unit in its last place for each rounding.
        units = 2 * (3 if self.numerics.output == "float32" else 1)
        precision = FLOATS[self.numerics.output].fraction_width + 1
        return abs(one - other) * (1 << precision) > 2 * units * abs(hit.expected)


def sign_token(x: npt.NDArray) -> npt.NDArray:
    """Return the signs of a token's elements, times the largest power of two in it.

    Parameters
    ----------
    x : array of an activation type, shape (K,)
        Finite.

    Returns
    -------
    array of the same type, shape (K,)
    """
    if x.dtype == np.int8:
        return np.sign(x)
    values = x.astype(np.float64)
    top = np.abs(values).max()
    power = np.ldexp(1.0, np.frexp(top)[1] - 1) if top else 0.0
    return (np.sign(values) * power + 0.0).astype(x.dtype)


def _sum_of(outputs: Any, token: int, row: int, step: int) -> Fraction | None:
    """Return the sum, in steps of ``2**step``, that an output stands for."""
    if isinstance(outputs, tuple):
        return Fraction(int(outputs[0][token, row]))
    value = float(outputs[token, row])
    return Fraction(value) / Fraction(2) ** step if np.isfinite(value) else None


def _is_whole(hit: Seen | None) -> bool:
    """Whether the sums that were seen are sums at all: all of them are integers."""
    return hit is None or all(t is None or t.denominator == 1 for t in hit.sums.values())
