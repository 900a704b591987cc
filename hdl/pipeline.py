"""Registers in a row, and sums in a registered tree."""

from collections.abc import Sequence

from amaranth import Module, Signal, Value
from amaranth.hdl import ValueLike

__all__ = ["delay", "registered_sum", "sum_latency"]

LEVELS_OF_STAGE = 2


def delay(m: Module, value: ValueLike, cycles: int, *, name: str, control: bool = False) -> Value:
    """Return ``value`` as it was ``cycles`` cycles ago.

    Parameters
    ----------
    m : Module
        Receives the registers.
    value : value-like
        What to delay; a structure comes back as its plain bits.
    cycles : int
        Registers in a row; 0 returns the value itself.
    name : str
        Prefix of the registers' names.
    control : bool
        Whether the registers must reset; data needs no reset.
    """
    current = Value.cast(value)
    for stage in range(cycles):
        register = Signal(current.shape(), name=f"{name}_{stage + 1}", reset_less=not control)
        m.d.sync += register.eq(current)
        current = register
    return current


def sum_latency(count: int) -> int:
    """Cycles that :func:`registered_sum` takes for ``count`` terms."""
    levels = (count - 1).bit_length()
    return -(-levels // LEVELS_OF_STAGE)


def registered_sum(m: Module, terms: Sequence[ValueLike], *, name: str) -> Value:
    """Add up terms in a binary tree with a register after every second level.

    Parameters
    ----------
    m : Module
        Receives the registers.
    terms : sequence of value-like
        At least one.
    name : str
        Prefix of the registers' names.

    Returns
    -------
    Value
        The sum, exact, ``sum_latency(len(terms))`` cycles later.
    """
    current: list[Value] = [Value.cast(term) for term in terms]
    level = 0
    while len(current) > 1:
        pairs = [sum(current[i + 1 : i + 2], current[i]) for i in range(0, len(current), 2)]
        level += 1
        if level % LEVELS_OF_STAGE == 0 or len(pairs) == 1:
            pairs = [delay(m, pair, 1, name=f"{name}_{level}_{i}") for i, pair in enumerate(pairs)]
        current = pairs
    return current[0]
