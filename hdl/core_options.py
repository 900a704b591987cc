"""What is chosen about the arithmetic of a lane: one class for each kind of engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..formats import NumberFormat

__all__ = ["CORE_OPTIONS", "CoreOptions", "LutOptions", "MacOptions", "TermOptions"]


@dataclass(frozen=True, kw_only=True)
class CoreOptions:
    """What all kinds have in common."""

    engine: ClassVar[str]
    """Name of the kind of engine."""

    def check(self, width: int) -> None:
        """Refuse what does not go with a lane of ``width`` weights.

        Raises
        ------
        :exc:`ValueError`
            If something does not; the sentence says what.
        """

    @property
    def fold(self) -> int:
        """Parts that a slice's weights are taken in, one a cycle."""
        return 1

    @property
    def banks(self) -> int:
        """Tiles whose activations are kept: with 2, one is written while the other is in use."""
        return 2

    @property
    def shares_blocks(self) -> bool:
        """Whether it needs block RAM with two ports that both read and write."""
        return False

    @property
    def write_cycles(self) -> int:
        """Cycles in which a slice's activations are written for the lanes."""
        raise NotImplementedError

    def needs_slice_sums(self, members: Sequence[NumberFormat]) -> bool:
        """Whether cores are to be told the sum of each slice's activations."""
        return False

    def step_scales(self, item: NumberFormat) -> tuple[int, ...]:
        """Return which of the group's scales each pass over a slice is multiplied with."""
        raise NotImplementedError

    def cycles(self, item: NumberFormat) -> int:
        """Count the cycles that a lane takes for one slice of a format."""
        return len(self.step_scales(item)) * self.fold


@dataclass(frozen=True, kw_only=True)
class LutOptions(CoreOptions):
    """Table look-up: one digit plane a cycle.

    Parameters
    ----------
    mu : int
        Activations that share one table: 1 to 8, or to 10 in block RAM.
    table : str
        ``full``: sums of every subset, 2^mu entries in distributed RAM; ``half``: sums under every
        choice of signs but the last, 2^(mu-1) entries and a sign; ``block``: as ``full``, in block
        RAM.
    banks : int
        Tiles whose tables are kept. With 2, one tile is written while the other is in use; with 1
        lanes wait while tables are written, which take half the memory: in block RAM, pairs of
        tables share a true dual-port memory, which iCE40 has not. That needs formats of one
        width: lanes that part by a tile would wait for each other.

    Raises
    ------
    :exc:`ValueError`
        If a number is out of range.
    """

    engine: ClassVar[str] = "lut"
    mu: int = 4
    table: str = "full"
    banks: int = 2  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.table not in ("full", "half", "block"):
            raise ValueError(f"table must be 'full', 'half' or 'block', not {self.table!r}")
        most = 10 if self.table == "block" else 8
        if not isinstance(self.mu, int) or not 1 <= self.mu <= most:
            raise ValueError(
                f"mu must be an integer in 1..{most} for table {self.table!r}, not {self.mu!r}"
            )
        if self.banks not in (1, 2):
            raise ValueError(f"banks must be 1 or 2, not {self.banks!r}")
        if self.table == "half" and self.mu < 2:
            raise ValueError(
                "mu must be at least 2 for half tables; use 2 or more, or table 'full'"
            )

    @property
    def is_half(self) -> bool:
        """Whether entries are sums under signs, looked up with a sign of their own."""
        return self.table == "half"

    @property
    def shares_blocks(self) -> bool:
        """Whether pairs of tables share a block RAM, a port each."""
        return self.table == "block" and self.banks == 1

    @property
    def write_cycles(self) -> int:
        """Cycles that a slice's tables take: one for each entry.

        Where the first entry is not zero, the ones before to sum it up.
        """
        return self.entries + (self.mu if self.is_half else 0)

    def needs_slice_sums(self, members: Sequence[NumberFormat]) -> bool:
        """Whether digits of some kind take the sum of a slice's activations beside look-ups."""
        bipolar = any(plane.bipolar for item in members for plane in item.planes)
        return self.is_half or bipolar or any(item.has_zero_point for item in members)

    def step_scales(self, item: NumberFormat) -> tuple[int, ...]:
        """Return the scale of each digit plane."""
        return tuple(plane.scale_index for plane in item.planes)

    def tables(self, width: int) -> int:
        """Count the tables of one slice."""
        return -(-width // self.mu)

    @property
    def entries(self) -> int:
        """Entries of one table."""
        return 1 << (self.mu - 1 if self.is_half else self.mu)


@dataclass(frozen=True, kw_only=True)
class _FoldedOptions(CoreOptions):
    """Kinds that may take a slice's weights in several parts."""

    fold: int = 2  # type: ignore[assignment]

    @property
    def write_cycles(self) -> int:
        """Cycles that a slice takes: one for each part."""
        return self.fold

    def check(self, width: int) -> None:
        """Refuse a fold that does not divide the width, or has more parts than can be told."""
        if isinstance(self.fold, int) and self.fold > 256:
            raise ValueError(f"fold must be at most 256, not {self.fold}")
        if not isinstance(self.fold, int) or self.fold < 1 or width % self.fold:
            raise ValueError(
                f"fold must divide the {width} weights of a lane's slice, not {self.fold!r}"
            )


@dataclass(frozen=True, kw_only=True)
class TermOptions(_FoldedOptions):
    """Signed powers of two: one term of a part of a slice's weights a cycle.

    Parameters
    ----------
    fold : int
        Parts that a slice's weights are taken in; divides the width. With 2, as many terms a cycle
        as suit one code bit of every weight a cycle.
    """

    engine: ClassVar[str] = "term"

    def step_scales(self, item: NumberFormat) -> tuple[int, ...]:
        """Return the scale of each term of a format's weights."""
        return tuple(step.scale_index for step in item.term_steps)


@dataclass(frozen=True, kw_only=True)
class MacOptions(_FoldedOptions):
    """Multipliers: the baseline that the others are measured against.

    Parameters
    ----------
    fold : int
        Parts that a slice's weights are taken in; divides the width.
    product : str
        ``logic``: multipliers of adders; ``dsp``: for the synthesiser to map onto DSP blocks.
    """

    engine: ClassVar[str] = "mac"
    product: str = "logic"

    def __post_init__(self) -> None:
        if self.product not in ("logic", "dsp"):
            raise ValueError(f"product must be 'logic' or 'dsp', not {self.product!r}")

    def step_scales(self, item: NumberFormat) -> tuple[int, ...]:
        """Return each of a format's scales: what a code stands for is taken scale by scale."""
        return tuple(range(item.scale_count))


CORE_OPTIONS: dict[str, type[CoreOptions]] = {
    kind.engine: kind for kind in (LutOptions, TermOptions, MacOptions)
}
