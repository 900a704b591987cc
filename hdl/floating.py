"""Bit-level steps of floating-point arithmetic, shared by the aligner and the output unit."""

from amaranth import Cat, Const, Module, Mux, Signal, Value

from .pipeline import delay

__all__ = ["normalize", "normalize_cycles", "round_half_even", "shift_right_sticky"]


def normalize_cycles(width: int, *, levels: int) -> int:
    """Cycles that :func:`normalize` takes for so many bits, with so many steps to a register."""
    return max(0, -(-(width - 1).bit_length() // levels) - 1)


def normalize(
    m: Module, value: Value, *, name: str, levels: int | None = None
) -> tuple[Value, Value]:
    """Shift left until the top bit is 1.

    Parameters
    ----------
    m : Module
        Receives the logic.
    value : Value
        What to shift.
    name : str
        Prefix of the signals' names.
    levels : int, optional
        Steps between two registers, of which there are ``normalize_cycles``; none by default.

    Returns
    -------
    shifted : Value
        Same width; zero stays zero.
    count : Value
        Places shifted; all ones in binary steps when ``value`` is zero.
    """
    current: Value = value
    steps: list[Value] = []
    count = (len(value) - 1).bit_length()
    for level in reversed(range(count)):
        step = 1 << level
        done = count - 1 - level
        if levels is not None and done and done % levels == 0:
            current = delay(m, current, 1, name=f"{name}_until_{level}")
            steps = [
                delay(m, empty, 1, name=f"{name}_count_{index}_{level}")
                for index, empty in enumerate(steps)
            ]
        empty = Signal(name=f"{name}_empty_{level}")
        m.d.comb += empty.eq(current[-step:] == 0)
        following = Signal(len(value), name=f"{name}_{level}")
        m.d.comb += following.eq(Mux(empty, current << step, current))
        current = following
        steps.append(empty)
    return current, Cat(*reversed(steps)) if steps else Const(0, 1)


def shift_right_sticky(m: Module, value: Value, places: Value, *, name: str) -> tuple[Value, Value]:
    """Shift right by any number of places, with a register half-way: one cycle later.

    Returns
    -------
    shifted : Value
        Same width.
    sticky : Value
        Whether any bit shifted out was 1.
    """
    current: Value = value
    sticky: Value = Const(0, 1)
    for level in range(len(places)):
        if level == len(places) // 2:
            current = delay(m, current, 1, name=f"{name}_half")
            sticky = delay(m, sticky, 1, name=f"{name}_sticky_half")
            places = Cat(places[:level], delay(m, places[level:], 1, name=f"{name}_places"))
        step = 1 << level
        lost = current[:step] if step < len(value) else current
        following = Signal(len(value), name=f"{name}_{level}")
        seen = Signal(name=f"{name}_sticky_{level}")
        m.d.comb += seen.eq(sticky | (places[level] & lost.any()))
        m.d.comb += following.eq(Mux(places[level], current >> step, current))
        current, sticky = following, seen
    return current, sticky


def round_half_even(value: Value, half: Value, sticky: Value) -> Value:
    """Round up by one where what was cut off exceeds a half, or is a half and ``value`` is odd.

    Parameters
    ----------
    value : Value
        What is kept, unsigned.
    half : Value
        First bit cut off.
    sticky : Value
        Whether any later bit cut off was 1.

    Returns
    -------
    Value
        One bit wider than ``value``.
    """
    return value + (half & (sticky | value[0]))
