"""Parameters of an engine and every width and latency that follows from them."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..formats import (
    NumberFormat,
    Numerics,
    PackedLayer,
    QuantizedMatrix,
    StreamLayout,
    pack,
)
from ..formats.numerics import MAX_SUM_WIDTH
from .core_options import CoreOptions, LutOptions

__all__ = ["EngineParameters", "signed_width"]


def signed_width(peak: int) -> int:
    """Bits of a two's complement number whose magnitude is at most ``peak``."""
    return peak.bit_length() + 1


@dataclass(frozen=True, kw_only=True)
class EngineParameters:
    """One engine: its weight stream, its numerics and how its lanes are built.

    Parameters
    ----------
    layout : StreamLayout
        Lanes, weights of a lane in a slice, formats, largest layer.
    numerics : Numerics
        Activation type, aligned width, output type.
    core : CoreOptions
        Kind of arithmetic, and what is chosen about it.
    tokens : int
        Activation vectors that one pass of the weights serves: 1, 2, 4 or 8.
    multiply : str
        ``serial``: group scales by shift and add, as many digits a cycle as keep up;
        ``dsp``: one product a cycle, for the synthesiser to map.
    act_lanes : int
        Activations in one beat of the activation stream; divides the layout's width, and what of it
        the core takes in a cycle.
    slices_ahead : int
        Slices that wait in a lane for their turn, 1 to 16. One waits in registers and takes no
        memory; where formats differ in width, as many as the widest has times the narrowest's bits
        keep the stream going.
    adder_levels : int
        Levels of adders between two registers, 1 to 4. With 1 most devices take the fewest LUTs
        and run fastest; every sum then takes more cycles, and more flip-flops.
    lut_inputs : int
        Inputs of the device's look-up tables, 4 to 6, for which decoders of digit planes are made.

    Raises
    ------
    :exc:`ValueError`
        If a number is out of range, or the exact sum of the largest layer needs over 63 bits.
    """

    layout: StreamLayout
    numerics: Numerics
    core: CoreOptions = field(default_factory=LutOptions)
    tokens: int = 1
    multiply: str = "serial"
    act_lanes: int = 8
    slices_ahead: int = 2
    adder_levels: int = 2
    lut_inputs: int = 6

    def __post_init__(self) -> None:
        width = self.layout.width
        self.core.check(width)
        if self.tokens not in (1, 2, 4, 8):
            raise ValueError(f"tokens must be 1, 2, 4 or 8, not {self.tokens!r}")
        if self.multiply not in ("serial", "dsp"):
            raise ValueError(f"multiply must be 'serial' or 'dsp', not {self.multiply!r}")
        part = width // self.core.fold
        if not isinstance(self.act_lanes, int) or self.act_lanes < 1 or part % self.act_lanes:
            raise ValueError(
                f"act_lanes must divide the {part} weights of a lane's cycle, "
                f"not {self.act_lanes!r}"
            )
        if not isinstance(self.slices_ahead, int) or not 1 <= self.slices_ahead <= 16:
            raise ValueError(f"slices_ahead must be in 1..16, not {self.slices_ahead!r}")
        if not isinstance(self.adder_levels, int) or not 1 <= self.adder_levels <= 4:
            raise ValueError(f"adder_levels must be in 1..4, not {self.adder_levels!r}")
        if not isinstance(self.lut_inputs, int) or not 4 <= self.lut_inputs <= 6:
            raise ValueError(f"lut_inputs must be in 4..6, not {self.lut_inputs!r}")
        shapes = zip(
            (item.code_width for item in self.layout.members), self.layout.header_slots, strict=True
        )
        if self.core.banks == 1 and len(set(shapes)) > 1:
            raise ValueError(
                "banks must be 2 where formats differ in the bits of their codes or headers, not 1"
            )
        if 0 in self.member_cycles:
            raise ValueError(
                "codebook_terms must be at least 1 for a term engine that decodes codebooks, not 0"
            )
        if self.sum_width > MAX_SUM_WIDTH:
            raise ValueError(
                f"The exact sum of {self.layout.max_columns} columns needs {self.sum_width} bits, "
                f"over the limit of {MAX_SUM_WIDTH}; lower max_columns, act_width or scale_width"
            )

    def pack(self, matrix: QuantizedMatrix) -> PackedLayer:
        """Pack a layer for this engine; see :func:`lutra.formats.pack`."""
        return pack(matrix, self.layout, self.member_cycles)

    def slice_cycles(self, item: NumberFormat) -> int:
        """Count the cycles of one slice of a format: of its steps, or of reading it if longer.

        Raises
        ------
        :exc:`ValueError`
            If the engine does not decode the format.
        """
        return max(item.code_width, self.member_cycles[self.layout.number_of(item)])

    # -- arithmetic ----------------------------------------------------------------------------

    @cached_property
    def member_cycles(self) -> tuple[int, ...]:
        """Cycles that a lane takes for a slice of each of the layout's members."""
        return tuple(self.core.cycles(item) for item in self.layout.members)

    @property
    def max_cycles(self) -> int:
        """Cycles of the slowest format for one slice."""
        return max(self.member_cycles)

    @property
    def part_width(self) -> int:
        """Weights that a lane takes in a cycle."""
        return self.layout.width // self.core.fold

    @property
    def slice_width(self) -> int:
        """Bits of a signed sum of one slice's activations."""
        return signed_width(self.layout.width * self.numerics.peak)

    @property
    def segment_width(self) -> int:
        """Bits of what one scale multiplies: a group's sum within a tile, or one plane's."""
        columns = min(self.layout.tile_slices * self.layout.width, self.layout.max_columns)
        peaks = [
            m.peak * columns if m.scale_count == 1 else self._step_peak(m) * self.layout.width
            for m in self.layout.members
        ]
        return signed_width(max(peaks) * self.numerics.peak)

    @staticmethod
    def _step_peak(item: NumberFormat) -> int:
        """Return the largest magnitude that one of a format's scales is multiplied with."""
        return int(np.abs(item.weight_table(np.eye(item.scale_count, dtype=np.int64))).max())

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
    def sum_cycles(self) -> int:
        """Cycles between group sums of full records, at least."""
        if self.scales_every_step:
            return 1
        return self.layout.segment_choices[0] * min(self.member_cycles)

    @property
    def multiply_digits(self) -> int:
        """Digits of a scale, of two bits, that the serial multiplier takes in a cycle.

        As few as it takes for full records never to wait.
        """
        return min(-(-(width // 2) // self.sum_cycles) for width in self._digit_widths)

    @property
    def multiply_loads(self) -> bool:
        """Whether it takes the lowest bit of a scale together with the sum, ahead of the digits.

        It does where that saves a digit a cycle.
        """
        return -(-(self._digit_widths[0] // 2) // self.sum_cycles) > self.multiply_digits

    @property
    def _digit_widths(self) -> tuple[int, int]:
        """Bits of a scale's digits: of all of it, and of what is left without the lowest bit."""
        width = self.layout.scale_width + 1
        return width + width % 2, width - width % 2

    @property
    def multiply_interval(self) -> int:
        """Cycles between group sums that the multiplier can take."""
        if self.multiply == "dsp":
            return 1
        return -(-(self._digit_widths[self.multiply_loads] // 2) // self.multiply_digits)

    @property
    def multiply_latency(self) -> int:
        """Cycles from a finished group sum to its product."""
        return 2 if self.multiply == "dsp" else self.multiply_interval + 1

    @property
    def sum_interval(self) -> int:
        """Cycles between any two group sums of a lane, at least."""
        steps = 1 if self.scales_every_step else min(self.member_cycles)
        return max(self.multiply_interval, steps)

    # -- activations ---------------------------------------------------------------------------

    @property
    def max_act_beats(self) -> int:
        """Beats of the longest activation vector."""
        return -(-self.layout.max_columns // self.act_lanes)

    @property
    def beats_of_slice(self) -> int:
        """Activation beats of one slice."""
        return self.layout.width // self.act_lanes

    # -- addresses -----------------------------------------------------------------------------

    @property
    def slice_address_width(self) -> int:
        """Bits that tell the slices of the two tiles that are held; the bank is the top one."""
        return (self.layout.tile_slices - 1).bit_length() + 1

    @property
    def table_address_width(self) -> int:
        """Bits of these that tell the slices whose tables are kept."""
        return self.slice_address_width - (self.core.banks == 1)

    @property
    def row_address_width(self) -> int:
        """Bits that tell a lane's rows of two layers; the bank is the top one."""
        return (self.layout.max_blocks - 1).bit_length() + 1
