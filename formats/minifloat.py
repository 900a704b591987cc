"""Small floats with any split of their bits: all codes are finite, subnormals are kept."""

from .number_format import ValueFormat

__all__ = ["MAX_EXPONENT_WIDTH", "minifloat"]

MAX_EXPONENT_WIDTH = 5
"""Exponents of 6 bits span 2^62 steps, and no exact sum of such integers fits the contract."""


def minifloat(exponent_width: int, mantissa_width: int) -> ValueFormat:
    """Return the format with a sign, an exponent and a mantissa, from the top bit down.

    ``(-1)**s * 2**(e - bias) * (1 + m / 2**M)`` with ``bias = 2**(E - 1) - 1``, and where ``e`` is
    0 ``(-1)**s * 2**(1 - bias) * m / 2**M``. No code is an infinity or a NaN. In steps of the
    smallest subnormal all are integers; the code of -0 is 0.

    Parameters
    ----------
    exponent_width : int
        E, 1 to :data:`MAX_EXPONENT_WIDTH`.
    mantissa_width : int
        M, 0 or more; with the sign and the exponent at most 8 bits.

    Raises
    ------
    :exc:`ValueError`
        If a width is out of range.

    Source
    ------
    Liu et al., LLM-FP4, EMNLP 2023, section 3.1; for E2M1, E2M3, E3M2, E4M3 and E5M2 also OCP
    Microscaling Formats 1.0, section 5.3, whose E4M3 and E5M2 keep codes for NaN and infinity.
    """
    if not 1 <= exponent_width <= MAX_EXPONENT_WIDTH:
        raise ValueError(
            f"Exponents must have 1..{MAX_EXPONENT_WIDTH} bits, not {exponent_width}: the integers "
            f"of wider ones have no exact sums of 63 bits"
        )
    width = 1 + exponent_width + mantissa_width
    if mantissa_width < 0 or width > 8:
        raise ValueError(
            f"A float must have a sign, an exponent and a mantissa of 0 or more bits in 8 bits at "
            f"most, not {exponent_width} and {mantissa_width}"
        )
    hidden = 1 << mantissa_width
    magnitudes = [
        mantissa if exponent == 0 else (hidden | mantissa) << (exponent - 1)
        for exponent in range(1 << exponent_width)
        for mantissa in range(hidden)
    ]
    bias = (1 << (exponent_width - 1)) - 1
    microscaling = (exponent_width, mantissa_width) in ((2, 1), (2, 3), (3, 2), (4, 3), (5, 2))
    return ValueFormat(
        name=f"float{width}_e{exponent_width}m{mantissa_width}",
        code_width=width,
        values=(*magnitudes, *(-magnitude for magnitude in magnitudes)),
        grid_exponent=1 - bias - mantissa_width,
        source=(
            "OCP Microscaling Formats 1.0, section 5.3, all codes finite"
            if microscaling
            else "Liu et al., LLM-FP4, EMNLP 2023, section 3.1"
        ),
    )
