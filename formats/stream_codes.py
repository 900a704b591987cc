"""Codes as the weight stream numbers them, so that most digit planes need no decoding."""

from collections.abc import Sequence

__all__ = ["assign_stream_codes"]


def assign_stream_codes(
    values: Sequence[int], coefficients: Sequence[int], code_width: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give a table's codes new numbers: bit ``b`` is the digit of coefficient ``b``.

    What is left of a value is made up of the coefficients beyond ``code_width``. The numbering is
    found by augmenting paths, code by code: a pure function of the table.

    Parameters
    ----------
    values : sequence of int
        Value of each code.
    coefficients : sequence of int
        Coefficients of 0/1 digits, at least ``code_width``.
    code_width : int
        Bits of a code.

    Returns
    -------
    stream_codes : tuple of int
        New number of each code.
    digits : tuple of int
        Digits of each code, coefficient ``i`` in bit ``i``; the lowest ``code_width`` of them are
        its new number.

    Raises
    ------
    :exc:`ValueError`
        If there is no such numbering.
    """
    count = 1 << code_width
    choices = [
        [digits for digits in range(1 << len(coefficients)) if value == _sum(coefficients, digits)]
        for value in values
    ]
    owner: dict[int, int] = {}  # code that has a number
    chosen: dict[int, int] = {}  # digits of a code

    def place(code: int, tried: set[int]) -> bool:
        for digits in choices[code]:
            number = digits % count
            if number in tried:
                continue
            tried.add(number)
            if number not in owner or place(owner[number], tried):
                owner[number], chosen[code] = code, digits
                return True
        return False

    for code in range(count):
        if not place(code, set()):
            raise ValueError(
                f"Coefficients {', '.join(map(str, coefficients))} do not number the codes of "
                f"{', '.join(map(str, values))}: nothing is left for {values[code]}"
            )
    digits = tuple(chosen[code] for code in range(count))
    return tuple(each % count for each in digits), digits


def _sum(coefficients: Sequence[int], digits: int) -> int:
    return sum(c for index, c in enumerate(coefficients) if digits >> index & 1)
