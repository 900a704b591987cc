"""Signed powers of two: the digits that a bit-serial engine takes one a cycle."""

from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product
from math import comb

__all__ = ["Term", "TermStep", "find_term_steps", "power_term", "signed_power_terms"]

# Beyond this many sums the search for a narrower shifter is given up.
_SEARCH_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Term:
    """``sign * 2**exponent`` with ``sign`` -1 or +1."""

    sign: int
    exponent: int

    @property
    def value(self) -> int:
        """The term as an integer."""
        return self.sign << self.exponent


@dataclass(frozen=True, slots=True)
class TermStep:
    """One step of a bit-serial engine: what it takes of every code, a signed power of two at most.

    Parameters
    ----------
    terms : tuple of Term or None
        Term of each code; ``None`` where a code has none in this step.
    scale_index : int
        Which of the group's scales multiplies this step.
    """

    terms: tuple[Term | None, ...]
    scale_index: int = 0

    @property
    def base(self) -> int:
        """Smallest exponent of the step: all of its terms are multiples of its power of two."""
        return min((term.exponent for term in self.terms if term), default=0)

    @property
    def span(self) -> int:
        """Exponents from the smallest up to the largest: ways in which a shifter must shift."""
        return 1 + max((term.exponent - self.base for term in self.terms if term), default=0)

    @property
    def values(self) -> tuple[int, ...]:
        """Value of each code's term."""
        return tuple(term.value if term else 0 for term in self.terms)


def signed_power_terms(value: int) -> tuple[Term, ...]:
    """Write an integer as the fewest signed powers of two, largest first.

    The non-adjacent form has the fewest non-zero digits of all signed binary forms, and is unique.

    Parameters
    ----------
    value : int
        Any integer.

    Returns
    -------
    tuple of Term
        Empty for 0.

    Source
    ------
    Reitwiesner, Binary Arithmetic, Advances in Computers 1, 1960.
    """
    terms = []
    exponent = 0
    while value:
        if value & 1:
            sign = 2 - (value & 3)  # +1 if the next bit is 0, -1 if a run of ones begins here
            terms.append(Term(sign, exponent))
            value -= sign
        value >>= 1
        exponent += 1
    return tuple(reversed(terms))


@cache
def find_term_steps(values: tuple[int, ...]) -> tuple[TermStep, ...]:
    """Find the fewest steps whose terms add up to every value of a table.

    Radix-4 Booth digits are taken where they need no more steps than the non-adjacent form, which
    has the fewest: plain integers then have digits that depend on three code bits. Other tables are
    searched, with as many steps as the non-adjacent form, for those that need to shift by the
    fewest different amounts beyond an amount common to all codes of a step; of equal ones for those
    whose common amounts are even, as Booth's are, and then small. The result is a pure function of
    the table.

    Parameters
    ----------
    values : tuple of int
        Value of each code.

    Returns
    -------
    tuple of TermStep
        At least one.

    Source
    ------
    Booth digits: MacSorley, High-Speed Arithmetic in Binary Computers, Proc. IRE 49, 1961. The
    search: own derivation.
    """
    count = max(1, *(len(signed_power_terms(value)) for value in values))
    booth = _booth_steps(values)
    if len(booth) <= count:
        return booth
    return _narrow_steps(values, count)


def _booth_steps(values: tuple[int, ...]) -> tuple[TermStep, ...]:
    """Cut two's complement numbers into digits -2 … +2 of weight 1, 4, 16, and so on."""
    width = 1 + max((value if value >= 0 else ~value).bit_length() for value in values)
    steps = []
    for exponent in range(0, width, 2):
        digits = [_booth_digit((value << 1) >> exponent & 7) for value in values]
        steps.append(TermStep(tuple(power_term(digit << exponent) for digit in digits)))
    return tuple(steps)


def _booth_digit(bits: int) -> int:
    """Digit of two bits and the one below them."""
    return (bits & 1) + (bits >> 1 & 1) - (bits >> 2 << 1)


def power_term(value: int) -> Term | None:
    """Return a signed power of two as a term, and nothing for 0."""
    return Term(1 if value > 0 else -1, abs(int(value)).bit_length() - 1) if value else None


def _narrow_steps(values: tuple[int, ...], count: int) -> tuple[TermStep, ...]:
    """Find ``count`` steps of the smallest span."""
    top = max(abs(value) for value in values).bit_length()
    sums = 0
    for span in range(1, top + 2):
        sums += comb(top + count, count) * (2 * span + 1) ** count
        if sums > _SEARCH_LIMIT:
            break
        for bases in _bases(count, top):
            found = _forms(bases, span)
            if found.keys() >= set(values):
                rows = [found[value] for value in values]
                return tuple(map(TermStep, zip(*rows, strict=True)))
    rows = [signed_power_terms(value) for value in values]
    padded = [row + (None,) * (count - len(row)) for row in rows]
    return tuple(map(TermStep, zip(*padded, strict=True)))


def _bases(count: int, top: int) -> list[tuple[int, ...]]:
    """List smallest exponents of the steps, rising: even ones first, then small ones."""
    rising = combinations_with_replacement(range(top + 1), count)
    return sorted(rising, key=lambda bases: (any(base & 1 for base in bases), bases[::-1]))


def _forms(bases: tuple[int, ...], span: int) -> dict[int, tuple[Term | None, ...]]:
    """Map each sum of terms to its simplest form: fewest terms, then fewest of the other sign."""
    choices = [
        [None, *(Term(sign, base + shift) for shift in range(span) for sign in (1, -1))]
        for base in bases
    ]
    best: dict[int, tuple[tuple, tuple[Term | None, ...]]] = {}
    for form in product(*choices):
        total = sum(term.value for term in form if term)
        against = sum(term.sign * total < 0 for term in form if term)
        # Of equal ones, that with the smaller first terms; a number and its negative go alike.
        exponents = tuple(term.exponent if term else -1 for term in form)
        key = (sum(map(bool, form)), against, exponents)
        if total not in best or key < best[total][0]:
            best[total] = key, form
    return {total: form for total, (_, form) in best.items()}
