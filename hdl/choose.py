"""One of several values, by number or by one bit that is set."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth import Mux, Value
from amaranth.hdl import ValueLike

__all__ = ["choose", "choose_by_bit"]


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


def choose_by_bit(values: Sequence[Value], bits: Value) -> Value:
    """Return the bits of the value whose bit is set; 0 if none is.

    Fewer levels than :func:`choose` in LUTs of four inputs, each of which takes two values.

    Parameters
    ----------
    values : sequence of Value
        At least one, all of one width.
    bits : Value
        As many bits, of which at most one is 1.
    """
    pairs = zip(values, bits, strict=True)
    return reduce(or_, (value[:] & bit.replicate(len(value)) for value, bit in pairs))
