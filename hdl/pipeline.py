"""Registers in a row, and sums in a registered tree."""

from collections.abc import Callable, Sequence

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import ValueLike

__all__ = ["delay", "registered_signed_sum", "registered_sum", "sum_latency"]


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


def sum_latency(count: int, *, levels: int) -> int:
    """Cycles that :func:`registered_sum` takes for ``count`` terms."""
    return -(-(count - 1).bit_length() // levels)


def registered_sum(m: Module, terms: Sequence[ValueLike], *, levels: int, name: str) -> Value:
    """Add up terms in a registered binary tree.

    Parameters
    ----------
    m : Module
        Receives the registers.
    terms : sequence of value-like
        At least one.
    levels : int
        Levels of the tree to each register.
    name : str
        Prefix of the registers' names.

    Returns
    -------
    Value
        The sum, exact, ``sum_latency(len(terms), levels=levels)`` cycles later.
    """
    return _tree(m, [(Value.cast(term),) for term in terms], _add, levels, name)[0]


def registered_signed_sum(
    m: Module, signs: Sequence[ValueLike], terms: Sequence[ValueLike], *, levels: int, name: str
) -> Value:
    """Add up terms, each taken off where its sign is 1, as :func:`registered_sum` does.

    An adder can take off one of its operands for nothing, but not both: each sum has the sign of
    its first term until all are added up.

    Parameters
    ----------
    m : Module
        Receives the registers.
    signs : sequence of value-like
        One bit for each term.
    terms : sequence of value-like
        At least one; signed.
    levels : int
        Levels of the tree to each register.
    name : str
        Prefix of the registers' names.

    Returns
    -------
    Value
        The sum, exact, ``sum_latency(len(terms), levels=levels)`` cycles later.
    """
    pairs = [(Value.cast(term), Value.cast(s)) for term, s in zip(terms, signs, strict=True)]
    total, sign = _tree(m, pairs, _add_signed, levels, name)
    return Mux(sign, -total, total)


_Term = tuple[Value, ...]


def _tree(
    m: Module,
    terms: list[_Term],
    combine: Callable[[_Term, _Term], _Term],
    levels_of_stage: int,
    name: str,
) -> _Term:
    """Combine terms, which are values that belong together, in a registered binary tree."""
    level = 0
    while len(terms) > 1:
        terms = [
            combine(*terms[index : index + 2]) if index + 1 < len(terms) else terms[index]
            for index in range(0, len(terms), 2)
        ]
        level += 1
        if level % levels_of_stage == 0 or len(terms) == 1:
            terms = [
                tuple(
                    delay(
                        m,
                        value,
                        1,
                        name=f"{name}_{level}_{index}_{part}"
                        if part
                        else f"{name}_{level}_{index}",
                    )
                    for part, value in enumerate(term)
                )
                for index, term in enumerate(terms)
            ]
    return terms[0]


def _add(first: _Term, second: _Term) -> _Term:
    return (first[0] + second[0],)


def _add_signed(first: _Term, second: _Term) -> _Term:
    differ = first[1] ^ second[1]
    # One more bit than the operands have: written so that it is one adder and not two.
    width = max(len(first[0]), len(second[0])) + 1
    other = Value.cast(Mux(differ, ~second[0], second[0])).as_signed()
    return (first[0] + other + differ)[:width].as_signed(), first[1]
