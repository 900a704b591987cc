"""Codebooks whose values are powers of evenly spaced numbers."""

import operator

__all__ = ["power_values"]


def power_values(code_width: int, exponent: float, peak: int | None = None) -> tuple[int, ...]:
    """Return ``sign(q) * |q|**(1 / exponent)`` for all codes, sign in the top bit, on a grid.

    Parameters
    ----------
    code_width : int
        Bits of a code, 2 to 8; ``|q|`` goes up to ``2**(code_width - 1) - 1``.
    exponent : float
        ``a`` of the source, over 0 up to 1: 1 gives integers, 1/2 squares.
    peak : int, optional
        What the largest value becomes, others rounded to the nearest integer, ties to even. By
        default the powers themselves, which must be integers then.

    Returns
    -------
    tuple of int
        ``2**code_width`` values; the code of -0 is 0. Of 8 or 16 in -128..127,
        :meth:`CodebookFormat.of` makes a layer's codebook.

    Raises
    ------
    :exc:`ValueError`
        If a number is out of range, or there is no peak and the powers are not integers.

    Source
    ------
    Yvinec et al., PowerQuant, ICLR 2023, and NUPES, 2023.
    """
    code_width = operator.index(code_width)
    if not 2 <= code_width <= 8:
        raise ValueError(f"Code width must be in 2..8, not {code_width}")
    if not 0 < exponent <= 1:
        raise ValueError(f"The exponent must be over 0 and at most 1, not {exponent}")
    powers = [q ** (1 / exponent) for q in range(1 << (code_width - 1))]
    if peak is None:
        if not all(power.is_integer() for power in map(float, powers)):
            raise ValueError(
                f"Powers for the exponent {exponent} are no integers; give a peak to round them to "
                f"a grid"
            )
        magnitudes = [int(power) for power in powers]
    elif peak < 1:
        raise ValueError(f"The peak must be at least 1, not {peak}")
    else:
        magnitudes = [round(peak * power / powers[-1]) for power in powers]
    return (*magnitudes, *(-magnitude for magnitude in magnitudes))
