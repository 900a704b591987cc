"""The search that turns a value table into digit planes."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement
from math import comb

__all__ = ["bit_truth", "find_planes"]

# Beyond this many sets of all coefficients but the last, the exhaustive search of one length is
# not attempted and the next length is tried. Tables of up to 16 values whose span is at most 50
# grid steps are searched in full.
_SEARCH_LIMIT = 200_000

# Lists longer than this are not tried one by one: a table that needs more has a plane for each bit.
_LONGEST = 12


def bit_truth(bit: int, code_width: int) -> int:
    """Return the truth table of a bit of the code itself."""
    return sum((code >> bit & 1) << code for code in range(1 << code_width))


@cache
def find_planes(values: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Find the shortest list of planes whose subset sums hold every value of a table.

    A plane is a coefficient and a truth table over the code bits; a code's value is the sum of the
    coefficients whose truth table is 1 there. Any table is allowed, so a list of coefficients will
    do exactly if every value is the sum of some subset of it.

    Power-of-two sets (unsigned, two's complement and its mirror image) are tried first at each
    length, so that plain integers keep their own code bits as planes; then every multiset of
    coefficients up to the span of the values, completed by one that may be larger. The first hit
    in that order is taken: the result is a pure function of the table. Tables that need more than
    a dozen planes, as those of floats of wide range do, have one for each bit of their values.

    Parameters
    ----------
    values : tuple of int
        Value of each code.

    Returns
    -------
    tuple of (coefficient, truth)
        ``truth`` has bit ``c`` set where code ``c`` includes the coefficient.
    """
    wanted = frozenset(values)
    length = max(len(wanted | {0}) - 1, 1).bit_length()
    while length <= _LONGEST:
        for coefficients in _candidates(length, wanted):
            subsets = _subset_of_each_sum(coefficients)
            if wanted <= subsets.keys():
                return tuple(
                    (coefficient, _truth(values, subsets, plane))
                    for plane, coefficient in enumerate(coefficients)
                )
        length += 1
    return _bit_planes(values)


def _bit_planes(values: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the bits of the values in two's complement, without those that are 0 in all."""
    width = max((value if value >= 0 else ~value).bit_length() for value in values)
    is_signed = min(values) < 0
    planes = [
        (
            -(1 << bit) if bit == width else 1 << bit,
            sum((value >> bit & 1) << code for code, value in enumerate(values)),
        )
        for bit in range(width + is_signed)
    ]
    return tuple(plane for plane in planes if plane[1])


def _candidates(length: int, wanted: frozenset[int]) -> Iterator[Sequence[int]]:
    """Yield coefficient lists of one length that could cover the wanted sums."""
    powers = [1 << bit for bit in range(length)]
    yield powers
    yield [*powers[:-1], -powers[-1]]
    yield [*(-power for power in powers[:-1]), powers[-1]]

    span = max(wanted | {0}) - min(wanted | {0})
    if comb(2 * span + length - 2, length - 1) > _SEARCH_LIMIT:
        return
    sizes = range(1, span + 1) if length > 1 else ()  # one coefficient is all last, however wide
    digits = [sign * size for size in sizes for sign in (1, -1)]
    for head in combinations_with_replacement(digits, length - 1):
        sums = _subset_of_each_sum(head).keys()
        missing = wanted - sums
        if len(missing) > len(sums):
            continue
        # The last coefficient must reach the lowest missing value from some sum of the others.
        lowest = min(missing, default=0)
        yield from ([*head, last] for last in sorted({lowest - s for s in sums} - {0}))


def _subset_of_each_sum(coefficients: Sequence[int]) -> dict[int, int]:
    """Map each subset sum to the smallest subset (as a bit mask) that yields it."""
    subsets = {0: 0}
    for plane, coefficient in enumerate(coefficients):
        for total, subset in list(subsets.items()):
            subsets.setdefault(total + coefficient, subset | 1 << plane)
    return subsets


def _truth(values: tuple[int, ...], subsets: dict[int, int], plane: int) -> int:
    return sum((subsets[value] >> plane & 1) << code for code, value in enumerate(values))
