"""One of several values, by number."""

from collections.abc import Sequence

from amaranth import Mux, Value
from amaranth.hdl import ValueLike

__all__ = ["choose"]


def choose(values: Sequence[ValueLike], number: Value) -> Value:
    """Return the value of that number, as a tree of multiplexers.

    A case statement compares the number with each of its own; of a tree, four values and two bits
    of the number fit one LUT of six inputs.

    Parameters
    ----------
    values : sequence of value-like
        At least one, all of one shape; what is beyond them does not matter.
    number : Value
        Which one.
    """
    if len(values) == 1:
        return Value.cast(values[0])
    bit = (len(values) - 1).bit_length() - 1
    low, high = values[: 1 << bit], values[1 << bit :]
    return Mux(number[bit], choose(high, number), choose(low, number))
