"""Programmable codebooks: formats whose values a layer brings along."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .number_format import NumberFormat, Plane, ValueFormat
from .terms import TermStep

__all__ = ["CODEBOOK_CODE_WIDTHS", "MAX_VALUE_WIDTH", "CodebookFormat", "CodebookSlot"]

CODEBOOK_CODE_WIDTHS = (3, 4)
MAX_VALUE_WIDTH = 8


@dataclass(frozen=True)
class CodebookFormat(ValueFormat):
    """The codebook of one layer: what a slot of an engine holds while the layer is computed.

    Every codebook of as many entries has the same name, that of its slot. The format does not know
    the engine: whether its entries have too many bits or terms for one, the packer says.

    Parameters
    ----------
    values : tuple of int
        Entries, 8 or 16, each in -128..127; made a tuple of plain integers.

    Raises
    ------
    :exc:`ValueError`
        If the length is wrong or an entry is no such integer; the sentence says which.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _entries(self.values))
        if len(self.values) != 1 << self.code_width:
            raise ValueError(
                f"A codebook of {self.code_width}-bit codes must have {1 << self.code_width} "
                f"entries, not {len(self.values)}"
            )
        if self.name != _slot_name(self.code_width):
            raise ValueError(
                f"A codebook of {self.code_width}-bit codes is named "
                f"{_slot_name(self.code_width)!r}, not {self.name!r}"
            )
        if self.zero_point or self.unused:
            raise ValueError("A codebook has neither a zero-point nor unused codes")
        super().__post_init__()

    @classmethod
    def of(cls, values: Sequence[int] | npt.NDArray, **facts: Any) -> "CodebookFormat":
        """Make a codebook of 8 or 16 entries; ``facts`` are further fields, such as ``source``.

        Raises
        ------
        :exc:`ValueError`
            If it has another length, or as the class says.
        """
        entries = _entries(values)
        code_width = (len(entries) - 1).bit_length()
        return cls(_slot_name(code_width), code_width, values=entries, **facts)

    @property
    def value_width(self) -> int:
        """Bits of two's complement that hold every entry."""
        return 1 + max((value if value >= 0 else ~value).bit_length() for value in self.values)

    @property
    def term_count(self) -> int:
        """Signed powers of two of the entry that needs the most."""
        return max(map(len, self.terms))

    @cached_property
    def planes(self) -> tuple[Plane, ...]:  # type: ignore[override]
        """One plane a bit of the entries: codes are not searched for fewer, as slots are not."""
        truths = (
            sum((value >> bit & 1) << code for code, value in enumerate(self.values))
            for bit in range(self.value_width)
        )
        return tuple(map(Plane, truths, _bit_weights(self.value_width)))

    @cached_property
    def term_steps(self) -> tuple[TermStep, ...]:
        """Step ``t`` has the term ``t`` of every entry, largest first."""
        rows = [terms + (None,) * (self.term_count - len(terms)) for terms in self.terms]
        return tuple(map(TermStep, zip(*rows, strict=True)))


@dataclass(frozen=True)
class CodebookSlot(NumberFormat):
    """What an engine has for the codebooks of its layers: registers, and what they can hold.

    Its planes are the bits of an entry in two's complement, its steps the terms that are kept of
    an entry; the truth tables of both are the layer's, so that they are empty here.

    Parameters
    ----------
    value_width : int
        Bits of an entry.
    term_count : int
        Signed powers of two that are kept of an entry; 0 if only its value is.
    """

    value_width: int = MAX_VALUE_WIDTH
    term_count: int = 0

    @cached_property
    def planes(self) -> tuple[Plane, ...]:  # type: ignore[override]
        """One plane a bit of an entry."""
        return tuple(Plane(0, weight) for weight in _bit_weights(self.value_width))

    @cached_property
    def term_steps(self) -> tuple[TermStep, ...]:
        """As many steps as terms are kept, each of any power of two that an entry may need."""
        return (_SlotStep((), top=self.value_width - 1),) * self.term_count

    @property
    def peak(self) -> int:
        """Largest magnitude of an entry."""
        return 1 << (self.value_width - 1)

    @property
    def no_values(self) -> str:
        """Sentence for whoever needs values where only the slot is known."""
        return (
            f"Format {self.name!r} has no values of its own; give a codebook of "
            f"{1 << self.code_width} entries"
        )

    def weight_table(self, scales: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Refuse: a slot has no values.

        Raises
        ------
        :exc:`ValueError`
            Always.
        """
        raise ValueError(self.no_values)

    def check(self, codebook: CodebookFormat) -> None:
        """Refuse a codebook that the slot cannot hold.

        Raises
        ------
        :exc:`ValueError`
            If an entry needs too many bits or terms; the sentence says which.
        """
        for index, (value, terms) in enumerate(zip(codebook.values, codebook.terms, strict=True)):
            bits = 1 + (value if value >= 0 else ~value).bit_length()
            if bits > self.value_width:
                raise ValueError(
                    f"Codebook entry {index} is {value}, which needs {bits} bits; "
                    f"the configuration's codebook_width is {self.value_width}"
                )
            if self.term_count and len(terms) > self.term_count:
                raise ValueError(
                    f"Codebook entry {index} is {value}, which needs {len(terms)} signed powers of "
                    f"two; the configuration's codebook_terms is {self.term_count}"
                )


@dataclass(frozen=True, slots=True)
class _SlotStep(TermStep):
    """A step whose terms are not known yet: any up to ``2**top``, of either sign."""

    top: int = 0

    @property
    def base(self) -> int:
        return 0

    @property
    def span(self) -> int:
        return self.top + 1

    @property
    def values(self) -> tuple[int, ...]:
        return ()


def _slot_name(code_width: int) -> str:
    return f"codebook{code_width}"


def _bit_weights(width: int) -> list[int]:
    """Return what each bit of a number in two's complement is worth."""
    return [*(1 << bit for bit in range(width - 1)), -1 << (width - 1)]


def _entries(values: Sequence[int] | npt.NDArray) -> tuple[int, ...]:
    """Check that a list can be a codebook of some slot, as far as its entries go."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray):
        raise ValueError(f"A codebook must be a list of integers, not {values!r}")
    low, high = -1 << (MAX_VALUE_WIDTH - 1), (1 << (MAX_VALUE_WIDTH - 1)) - 1
    entries = tuple(_entry(index, value, low, high) for index, value in enumerate(values))
    lengths = [1 << width for width in CODEBOOK_CODE_WIDTHS]
    if len(entries) not in lengths:
        listed = " or ".join(map(str, lengths))
        raise ValueError(f"A codebook must have {listed} entries, not {len(entries)}")
    return entries


def _entry(index: int, value: Any, low: int, high: int) -> int:
    try:
        entry = operator.index(value)
    except TypeError:
        entry = None
    if entry is None or isinstance(value, bool) or not low <= entry <= high:
        raise ValueError(
            f"Codebook entries must be integers in {low}..{high}, but entry {index} is {value!r}"
        )
    return entry
