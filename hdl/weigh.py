"""A plane's sum times the plane's coefficient, for whichever of a few coefficients it has."""

from collections.abc import Sequence

from amaranth import Module, Mux, Signal, Value, signed

from ..formats.terms import Term, signed_power_terms
from .choose import choose

__all__ = ["magnitude_slots", "weigh"]


def magnitude_slots(coefficients: Sequence[int]) -> list[list[Term | None]]:
    """Write the coefficients' magnitudes as sums of powers of two, one a slot.

    As binary digits, which need no signs, unless signed ones are fewer. The largest stands in the
    first slot, so that most coefficients have nothing in the others.

    Parameters
    ----------
    coefficients : sequence of int
        None of them 0.

    Returns
    -------
    list of lists of Term or None
        For each slot what it has of each coefficient.
    """
    rows: list[list[Term]] = []
    for size in map(abs, coefficients):
        terms = [Term(1, bit) for bit in reversed(range(size.bit_length())) if size >> bit & 1]
        terms = min(terms, list(signed_power_terms(size)), key=len)
        rows.append([*terms[:1], *reversed(terms[1:])])
    return [
        [row[slot] if slot < len(row) else None for row in rows]
        for slot in range(max(map(len, rows)))
    ]


def weigh(
    m: Module, total: Value, slots: Sequence[Sequence[Term | None]], number: Value, *, name: str
) -> Value:
    """Return the total times a magnitude: an adder for each slot but the first.

    Parameters
    ----------
    m : Module
        Receives the logic.
    total : Value
        What to multiply; signed.
    slots : list of lists of Term or None
        As :func:`magnitude_slots` has them.
    number : Value
        Number of the coefficient.
    name : str
        Prefix of the signals' names.
    """
    parts = []
    for index, slot in enumerate(slots):
        options = sorted(set(slot), key=lambda term: (-1, 0) if term is None else _place(term))
        which = Signal(range(len(options)), name=f"{name}_slot_{index}")
        with m.Switch(number):
            for coefficient, term in enumerate(slot):
                with m.Case(coefficient):
                    m.d.comb += which.eq(options.index(term))
        if options[0] is None and len(options) == 2:  # an AND that the adder's LUT has room for
            parts.append(Mux(which, _times(total, options[1]), 0))
        else:
            width = len(total) + max(term.exponent for term in options if term) + 1
            values = []
            for position, term in enumerate(options):
                value = Signal(signed(width), name=f"{name}_{index}_{position}")
                m.d.comb += value.eq(_times(total, term))
                values.append(value)
            parts.append(choose(values, which))
    return sum(parts[1:], parts[0])


def _place(term: Term) -> tuple[int, int]:
    return term.exponent, term.sign


def _times(total: Value, term: Term | None) -> Value | int:
    if term is None:
        return 0
    return (total if term.sign > 0 else -total) << term.exponent
