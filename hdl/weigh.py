"""A plane's sum times the plane's coefficient, for whichever of a few coefficients it has."""

from collections.abc import Sequence

from amaranth import Module, Mux, Signal, Value, signed

from ..formats.terms import Term, signed_power_terms
from .choose import choose
from .pipeline import delay, registered_sum, sum_latency

__all__ = ["magnitude_slots", "slot_choices", "weigh", "weigh_latency"]


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


def slot_choices(
    m: Module, slots: Sequence[Sequence[Term | None]], number: Value, *, name: str
) -> list[Value]:
    """Look up for each slot which of its terms a coefficient has, by the coefficient's number.

    Parameters
    ----------
    m : Module
        Receives the logic and a register for each slot.
    slots : list of lists of Term or None
        As :func:`magnitude_slots` has them.
    number : Value
        Number of the coefficient.
    name : str
        Prefix of the signals' names.

    Returns
    -------
    list of Value
        A number for each slot, as :func:`weigh` wants it, a cycle later.
    """
    choices = []
    for index, slot in enumerate(slots):
        options = _options(slot)
        which = Signal(range(len(options)), name=f"{name}_slot_{index}")
        with m.Switch(number):
            for coefficient, term in enumerate(slot):
                with m.Case(coefficient):
                    m.d.comb += which.eq(options.index(term))
        choices.append(delay(m, which, 1, name=f"{name}_choice_{index}"))
    return choices


def weigh_latency(slots: Sequence[Sequence[Term | None]], *, levels: int) -> int:
    """Cycles that :func:`weigh` takes: none where a coefficient is a power of two."""
    return sum_latency(len(slots), levels=levels)


def weigh(
    m: Module,
    total: Value,
    slots: Sequence[Sequence[Term | None]],
    choices: Sequence[Value],
    *,
    levels: int,
    name: str,
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
    choices : list of Value
        Which term of each; see :func:`slot_choices`.
    levels : int
        Levels of adders to each register.
    name : str
        Prefix of the signals' names.

    Returns
    -------
    Value
        The product, :func:`weigh_latency` cycles later.
    """
    parts = []
    for index, (slot, which) in enumerate(zip(slots, choices, strict=True)):
        options = _options(slot)
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
    return registered_sum(m, parts, levels=levels, name=name)


def _options(slot: Sequence[Term | None]) -> list[Term | None]:
    """List what a slot may have, once each."""
    return sorted(set(slot), key=lambda term: (-1, 0) if term is None else _place(term))


def _place(term: Term) -> tuple[int, int]:
    return term.exponent, term.sign


def _times(total: Value, term: Term | None) -> Value | int:
    if term is None:
        return 0
    return (total if term.sign > 0 else -total) << term.exponent
