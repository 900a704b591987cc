"""The numeric choices of a configuration: what comes in, how wide it is inside, what goes out."""

from dataclasses import dataclass

from .floats import FLOATS, FloatType

__all__ = ["ACTIVATIONS", "MAX_SUM_WIDTH", "OUTPUTS", "Numerics"]

ACTIVATIONS = ("int8", *FLOATS)
OUTPUTS = ("int", *FLOATS)
MAX_SUM_WIDTH = 63  # of an exact row sum, sign included: it and its bounds stay within an int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Sections 1 and 4 of the arithmetic contract, chosen once for an engine.

    Parameters
    ----------
    activation : str
        ``int8``, ``float16``, ``bfloat16`` or ``float32``.
    act_width : int or "exact"
        Bits of an aligned activation, sign included, 8 to 24; ``exact`` (41 bits) for float16.
        Must be 8 for int8.
    output : str
        ``int``, ``float32``, ``float16`` or ``bfloat16``.

    Raises
    ------
    :exc:`ValueError`
        If a choice is not one of these.
    """

    activation: str = "float16"
    act_width: int | str = 16
    output: str = "float32"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"Activation type must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}"
            )
        if self.output not in OUTPUTS:
            raise ValueError(
                f"Output type must be one of {', '.join(OUTPUTS)}, not {self.output!r}"
            )
        if self.activation == "int8" and self.act_width != 8:
            raise ValueError(f"act_width must be 8 for int8 activations, not {self.act_width!r}")
        if self.is_exact:
            if self.activation != "float16":
                raise ValueError(
                    "act_width 'exact' needs float16 activations; "
                    f"give {self.activation} a width in 8..24"
                )
        elif not isinstance(self.act_width, int) or not 8 <= self.act_width <= 24:
            raise ValueError(f"act_width must be 'exact' or in 8..24, not {self.act_width!r}")

    @property
    def is_exact(self) -> bool:
        """Whether every activation is kept exactly, with no shared exponent."""
        return self.act_width == "exact"

    @property
    def is_float(self) -> bool:
        """Whether activations are floating-point numbers."""
        return self.activation in FLOATS

    @property
    def float_type(self) -> FloatType:
        """Bit fields of the activations; not for int8."""
        return FLOATS[self.activation]

    @property
    def element_width(self) -> int:
        """Bits of one activation as it comes in."""
        return self.float_type.width if self.is_float else 8

    @property
    def aligned_width(self) -> int:
        """Bits of an aligned activation, sign included."""
        if not self.is_exact:
            return int(self.act_width)
        # Its fraction bits, one place for each exponent field above the lowest, and the sign: 41.
        kind = self.float_type
        return kind.fraction_width + kind.exponent_mask

    @property
    def exact_exponent(self) -> int:
        """Power of two of every step where activations are exact: float16's smallest."""
        kind = self.float_type
        return 1 - kind.bias - kind.fraction_width

    @property
    def peak(self) -> int:
        """Largest magnitude of an aligned activation."""
        return (1 << (self.aligned_width - 1)) - 1 if self.is_float else 128
