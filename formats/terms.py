"""Signed powers of two: the digits that a bit-serial engine takes one a cycle."""

from dataclasses import dataclass

__all__ = ["Term", "signed_power_terms"]


@dataclass(frozen=True, slots=True)
class Term:
    """``sign * 2**exponent`` with ``sign`` -1 or +1."""

    sign: int
    exponent: int

    @property
    def value(self) -> int:
        """The term as an integer."""
        return self.sign << self.exponent


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
