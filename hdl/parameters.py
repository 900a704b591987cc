"""Parameters of the LUT engine and every width that follows from them."""

from dataclasses import dataclass
from functools import cached_property

from ..formats import Numerics, StreamLayout
from ..formats.numerics import MAX_SUM_WIDTH

__all__ = ["LutParameters"]


def signed_width(peak: int) -> int:
    """Bits of a two's complement number whose magnitude is at most ``peak``."""
    return peak.bit_length() + 1


@dataclass(frozen=True, kw_only=True)
class LutParameters:
    """One LUT engine: its weight stream, its numerics and how its lanes are built.

    Parameters
    ----------
    layout : StreamLayout
        Lanes, weights of a lane in a cycle, formats, largest layer.
    numerics : Numerics
        Activation type, aligned width, output type.
    mu : int
        Activations that share one table, 1 to 8.
    table : str
        ``full``: 2^mu entries; ``half``: 2^(mu-1) entries and a sign.
    multiply : str
        ``serial``: group scales by shift and add, as many bits a cycle as it takes to keep up;
        ``dsp``: one product a cycle, for the synthesiser to map.
    act_lanes : int
        Activations in one beat of the activation stream; divides the layout's width.
    output_lanes : int
        Outputs in one beat of the output stream; divides the layout's lanes.

    Raises
    ------
    :exc:`ValueError`
        If a number is out of range, or the exact sum of the largest layer needs over 63 bits.
    """

    layout: StreamLayout
    numerics: Numerics
    mu: int = 4
    table: str = "full"
    multiply: str = "serial"
    act_lanes: int = 8
    output_lanes: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.mu, int) or not 1 <= self.mu <= 8:
            raise ValueError(f"mu must be an integer in 1..8, not {self.mu!r}")
        if self.table not in ("full", "half"):
            raise ValueError(f"table must be 'full' or 'half', not {self.table!r}")
        if self.table == "half" and self.mu < 2:
            raise ValueError(
                "mu must be at least 2 for half tables; use 2 or more, or table 'full'"
            )
        if self.multiply not in ("serial", "dsp"):
            raise ValueError(f"multiply must be 'serial' or 'dsp', not {self.multiply!r}")
        width = self.layout.width
        if not isinstance(self.act_lanes, int) or self.act_lanes < 1 or width % self.act_lanes:
            raise ValueError(
                f"act_lanes must divide the {width} weights of a lane's cycle, "
                f"not {self.act_lanes!r}"
            )
        lanes = self.layout.lanes
        if not isinstance(self.output_lanes, int) or self.output_lanes < 1:
            raise ValueError(f"output_lanes must be a positive integer, not {self.output_lanes!r}")
        if lanes % self.output_lanes:
            raise ValueError(f"output_lanes must divide the {lanes} lanes, not {self.output_lanes}")
        if self.sum_width > MAX_SUM_WIDTH:
            raise ValueError(
                f"The exact sum of {self.layout.max_columns} columns needs {self.sum_width} bits, "
                f"over the limit of {MAX_SUM_WIDTH}; lower max_columns, act_width or scale_width"
            )

    @property
    def tables(self) -> int:
        """Tables of one slice."""
        return -(-self.layout.width // self.mu)

    @property
    def entries(self) -> int:
        """Entries of one table."""
        return 1 << (self.mu if self.table == "full" else self.mu - 1)

    @property
    def entry_width(self) -> int:
        """Bits of a table entry: a signed sum of ``mu`` activations."""
        return signed_width(self.mu * self.numerics.peak)

    @property
    def slice_width(self) -> int:
        """Bits of a signed sum of one slice's activations."""
        return signed_width(self.layout.width * self.numerics.peak)

    @cached_property
    def coefficients(self) -> tuple[int, ...]:
        """Distinct plane coefficients of all formats."""
        return tuple(sorted({p.coefficient for m in self.layout.members for p in m.planes}))

    @property
    def segment_width(self) -> int:
        """Bits of what one scale multiplies: a group's sum within a tile, or one plane's."""
        columns = min(self.layout.tile_columns, self.layout.max_columns)
        peaks = [
            m.peak * columns
            if m.scale_count == 1
            else max(abs(p.coefficient) for p in m.planes) * self.layout.width
            for m in self.layout.members
        ]
        return signed_width(max(peaks) * self.numerics.peak)

    @property
    def sum_width(self) -> int:
        """Bits of the exact sum of the largest layer's row."""
        scale_peak = (1 << self.layout.scale_width) - 1
        weight_peak = max(m.peak for m in self.layout.members) * scale_peak
        return signed_width(self.layout.max_columns * weight_peak * self.numerics.peak)

    # -- multiplication by the scale -----------------------------------------------------------

    @property
    def scales_every_step(self) -> bool:
        """Whether some format has a scale for each plane."""
        return any(m.scale_count > 1 for m in self.layout.members)

    @property
    def multiply_bits(self) -> int:
        """Scale bits taken in a cycle by the serial multiplier, so that full groups never wait."""
        if self.scales_every_step:
            return self.layout.scale_width + 1
        sizes = [self.layout.segment_slices(size) for size in self.layout.group_sizes]
        slices = min([*sizes, self.layout.tile_slices])
        cycles = slices * min(len(m.planes) for m in self.layout.members)
        return -(-(self.layout.scale_width + 1) // cycles)

    @property
    def multiply_latency(self) -> int:
        """Cycles from a finished group sum to its product."""
        if self.multiply == "dsp":
            return 2
        return -(-(self.layout.scale_width + 1) // self.multiply_bits)

    @property
    def multiply_interval(self) -> int:
        """Cycles between group sums that the multiplier can take."""
        return 1 if self.multiply == "dsp" else self.multiply_latency

    # -- activations ---------------------------------------------------------------------------

    @property
    def max_act_beats(self) -> int:
        """Beats of the longest activation vector."""
        return -(-self.layout.max_columns // self.act_lanes)

    @property
    def beats_of_slice(self) -> int:
        """Activation beats of one slice."""
        return self.layout.width // self.act_lanes
