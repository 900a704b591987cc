"""Boolean functions of code bits: reduced once, then evaluated for many codes side by side."""

from collections.abc import Iterable, Sequence

from amaranth import Const, Value
from amaranth.hdl import ValueLike

__all__ = ["Function", "distinct", "evaluate", "inputs_of", "look_up", "reduce_truth"]

Function = bool | tuple
"""A constant, or (bit, function where it is 1, function where it is 0)."""


def reduce_truth(truth: int, code_width: int) -> Function:
    """Reduce a truth table by Shannon expansion, highest bit first; equal functions are equal.

    Parameters
    ----------
    truth : int
        Bit ``c`` is the function's value for code ``c``.
    code_width : int
        Bits of a code.
    """
    if code_width == 0:
        return bool(truth)
    half = 1 << (code_width - 1)
    high = reduce_truth(truth >> half, code_width - 1)
    low = reduce_truth(truth & (1 << half) - 1, code_width - 1)
    return low if high == low else (code_width - 1, high, low)


def distinct(tables: Iterable[tuple[int, int]]) -> list[Function]:
    """List the functions of some (truth table, code width) once each, in order of appearance."""
    return list(dict.fromkeys(reduce_truth(truth, code_width) for truth, code_width in tables))


def inputs_of(function: Function) -> set[int]:
    """Return the bits of a code that a function depends on."""
    if isinstance(function, bool):
        return set()
    bit, high, low = function
    return {bit} | inputs_of(high) | inputs_of(low)


def evaluate(function: Function, bits: Sequence[ValueLike], width: int) -> Value:
    """Apply a function to many codes at once.

    Parameters
    ----------
    function : Function
        What to evaluate.
    bits : sequence of value-like
        Element ``b`` holds bit ``b`` of every code.
    width : int
        Codes, and bits of the result.
    """
    if isinstance(function, bool):
        return Const((1 << width) - 1 if function else 0, width)
    bit, high, low = function
    chosen = Value.cast(bits[bit])
    if high is True and low is False:
        return chosen
    if high is False and low is True:
        return ~chosen
    if low is False:
        return chosen & evaluate(high, bits, width)
    if high is False:
        return ~chosen & evaluate(low, bits, width)
    if high is True:
        return chosen | evaluate(low, bits, width)
    if low is True:
        return ~chosen | evaluate(high, bits, width)
    return (chosen & evaluate(high, bits, width)) | (~chosen & evaluate(low, bits, width))


def look_up(table: Sequence[ValueLike], bits: Sequence[ValueLike], width: int) -> Value:
    """Apply a function that is data to many codes at once.

    Parameters
    ----------
    table : sequence of value-like
        The function's value for each code, one bit each; a power of two of them.
    bits : sequence of value-like
        Element ``b`` holds bit ``b`` of every code.
    width : int
        Codes, and bits of the result.
    """
    if len(table) == 1:
        return Value.cast(table[0]).replicate(width)
    half = len(table) // 2
    chosen = Value.cast(bits[half.bit_length() - 1])
    low, high = look_up(table[:half], bits, width), look_up(table[half:], bits, width)
    return (chosen & high) | (~chosen & low)
