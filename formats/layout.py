"""The weight stream's layout: which bits stand where. Packer and hardware are both built from it.

``docs/weight-stream.md`` describes the same layout for people.
"""

import zlib
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from .catalog import family
from .codebook import MAX_VALUE_WIDTH, CodebookFormat, CodebookSlot
from .number_format import MAX_SCALE_WIDTH, NumberFormat

__all__ = [
    "CRC_WIDTH",
    "FRAME_BEATS",
    "LAYER_HEADER",
    "LAYER_MAGIC",
    "ROW_SCALE_WIDTH",
    "SPAN_HEADER",
    "SPAN_MAGIC",
    "STREAM_VERSION",
    "Fields",
    "StreamLayout",
]

STREAM_VERSION = 4
LAYER_MAGIC = 0x754C  # "Lu"
SPAN_MAGIC = 0x7053  # "Sp"
CRC_WIDTH = 32
FRAME_BEATS = 4096  # of weights, before each checksum
ROW_SCALE_WIDTH = 32


class Fields(dict[str, int]):
    """Named bit fields, the first in the lowest bits: name to width."""

    @property
    def width(self) -> int:
        """Bits of all fields together."""
        return sum(self.values())

    def pack(self, **values: int) -> int:
        """Put one value into each field.

        Raises
        ------
        :exc:`ValueError`
            If a value does not fit its field.
        """
        word = position = 0
        for name, width in self.items():
            if values[name] >> width:
                raise ValueError(f"Field {name!r} has {width} bits; {values[name]} does not fit")
            word |= values[name] << position
            position += width
        return word


LAYER_HEADER = Fields(
    magic=16,
    version=8,
    flags=8,  # zero in this version
    layout=32,
    rows=32,
    columns=32,
    blocks=32,
    segment_slices=16,
    tiles=16,
    span_tiles=16,
)
SPAN_HEADER = Fields(magic=16, index=16, beats=32)


@dataclass(frozen=True, kw_only=True)
class StreamLayout:
    """Shape of the weight stream of one engine.

    A *beat* is one word of the stream: ``lanes * width`` bits, lane ``l`` at bit ``l * width``. A
    *slice* is ``width`` consecutive columns, a *tile* is ``tile_slices`` slices, a *block* is
    ``lanes`` consecutive rows, and a *record* is what one row has of one group within one tile.
    Every lane has a stream of its own in its bits of the beats, and reads it at its own pace.

    Parameters
    ----------
    lanes : int
        Rows computed side by side, 1 to 256.
    width : int
        Weights of a lane's slice; a multiple of 8, 8 to 512.
    tile_slices : int
        Slices whose activations are held at a time, 1 to 256.
    formats : tuple of str
        Names of the catalogue's families that the engine decodes.
    group_sizes : tuple of int
        Group sizes accepted beside whole rows; multiples of ``width`` that divide a tile or are
        multiples of one.
    scale_width : int
        Magnitude bits of a group scale, 1 to 31.
    output_lanes : int
        Outputs in one beat of the output stream; divides ``lanes``. Rows that leave in one beat are
        dealt to lanes that differ modulo this.
    ahead : int
        Words of its stream that a lane keeps before it needs them, 2 to 1024. The more, the more
        may lanes differ in what their records take.
    numbering : str
        How codes are numbered in the stream. ``planes``: formats with such a numbering so that most
        planes are bits of it, which is what tables look up; ``values``: as they are in the
        catalogue, which is simpler to turn into values.
    codebook_width : int
        Bits of a codebook's entry, sign included, 2 to 8.
    codebook_terms : int
        Signed powers of two kept for each entry, 0 to 4; 0 keeps values only.
    max_rows, max_columns : int
        Largest N and K.

    Raises
    ------
    :exc:`ValueError`
        If a number is out of its range or two do not go together; the sentence says which.
    """

    lanes: int
    width: int
    tile_slices: int
    formats: tuple[str, ...]
    group_sizes: tuple[int, ...] = ()
    scale_width: int = 8
    output_lanes: int = 1
    ahead: int = 16
    numbering: str = "planes"
    codebook_width: int = MAX_VALUE_WIDTH
    codebook_terms: int = 0
    max_rows: int = 4096
    max_columns: int = 4096

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("lanes", self.lanes, 1, 256),
            ("width", self.width, 8, 512),
            ("tile_slices", self.tile_slices, 1, 256),
            ("scale_width", self.scale_width, 1, MAX_SCALE_WIDTH),
            ("output_lanes", self.output_lanes, 1, 256),
            ("ahead", self.ahead, 2, 1024),
            ("codebook_width", self.codebook_width, 2, MAX_VALUE_WIDTH),
            ("codebook_terms", self.codebook_terms, 0, MAX_VALUE_WIDTH // 2),
            ("max_rows", self.max_rows, 1, 1 << 20),
            ("max_columns", self.max_columns, 1, 1 << 20),
        ):
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be an integer in {low}..{high}, not {value!r}")
        if self.width % 8:
            raise ValueError(f"width must be a multiple of 8, not {self.width}")
        if self.beat_width < CRC_WIDTH:
            raise ValueError(
                f"lanes * width must be at least {CRC_WIDTH} bits for the checksum, "
                f"not {self.beat_width}"
            )
        if self.lanes % self.output_lanes:
            raise ValueError(
                f"output_lanes must divide the {self.lanes} lanes, not {self.output_lanes}"
            )
        if self.numbering not in ("planes", "values"):
            raise ValueError(f"numbering must be 'planes' or 'values', not {self.numbering!r}")
        if not self.formats:
            raise ValueError(f"formats must name at least one format, not {self.formats!r}")
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"formats must name each format once, not {', '.join(self.formats)}")
        for group_size in self.group_sizes:
            if not isinstance(group_size, int) or group_size < 1:
                raise ValueError(f"group_sizes must be positive integers, not {group_size!r}")
            self.segment_slices(group_size)
        if self.max_tiles >> LAYER_HEADER["tiles"]:
            raise ValueError(
                f"max_columns {self.max_columns} makes {self.max_tiles} tiles of "
                f"{self.tile_columns} columns, over the stream's 65535; use wider tiles"
            )
        _ = self.members

    @cached_property
    def members(self) -> tuple[NumberFormat, ...]:
        """Formats in the order of their ids in the stream."""
        return tuple(self._sized(item) for name in self.formats for item in family(name).members)

    def _sized(self, item: NumberFormat) -> NumberFormat:
        if not isinstance(item, CodebookSlot):
            return item
        return replace(item, value_width=self.codebook_width, term_count=self.codebook_terms)

    def number_of(self, item: NumberFormat) -> int:
        """Return the id of a layer's format.

        Raises
        ------
        :exc:`ValueError`
            If the engine does not decode it, or has no room for a codebook's entries.
        """
        for index, known in enumerate(self.members):
            if isinstance(item, CodebookFormat) and isinstance(known, CodebookSlot):
                if item.code_width == known.code_width:
                    known.check(item)
                    return index
            elif item == known:
                return index
        listed = ", ".join(known.name for known in self.members)
        raise ValueError(
            f"Format {item.name!r} is not one that the configuration decodes: {listed}"
        )

    def stream_codes(self, item: NumberFormat) -> tuple[int, ...]:
        """Return the number that the stream has for each of a format's codes."""
        numbered = self.numbering == "planes"
        return item.stream_codes if numbered else tuple(range(1 << item.code_width))

    def stream_truth(self, item: NumberFormat, truth: int) -> int:
        """Rearrange a truth table over a format's codes into one over the stream's numbers."""
        return item.stream_truth(truth) if self.numbering == "planes" else truth

    @cached_property
    def fingerprint(self) -> int:
        """CRC-32 that tells this layout from others: a stream packed for another is refused by it.

        It covers an ASCII text: one line with ``lanes width tile_slices output_lanes ahead
        scale_width``, then one for each member with its code width, 1 or 0 for a
        zero-point, and for each plane ``coefficient,truth,bipolar,scale_index`` with the truth
        table over the stream's codes in hexadecimal; single spaces between, a line feed after each
        line. The line of a codebook's slot is its code width, ``codebook``, ``codebook_width`` and
        ``codebook_terms``.
        """
        shape = (self.lanes, self.width, self.tile_slices, self.output_lanes, self.ahead)
        lines = [" ".join(map(str, (*shape, self.scale_width)))]
        for item in self.members:
            if isinstance(item, CodebookSlot):
                lines.append(f"{item.code_width} codebook {item.value_width} {item.term_count}")
                continue
            planes = (
                f"{p.coefficient},{self.stream_truth(item, p.truth):x},"
                f"{int(p.bipolar)},{p.scale_index}"
                for p in item.planes
            )
            lines.append(f"{item.code_width} {int(item.has_zero_point)} {' '.join(planes)}")
        return zlib.crc32("".join(f"{line}\n" for line in lines).encode("ascii"))

    @property
    def beat_width(self) -> int:
        """Bits of one beat."""
        return self.lanes * self.width

    @property
    def tile_columns(self) -> int:
        """Columns of one tile."""
        return self.tile_slices * self.width

    @property
    def max_blocks(self) -> int:
        """Blocks of the largest layer."""
        return -(-self.max_rows // self.lanes)

    @property
    def max_tiles(self) -> int:
        """Tiles of the largest layer."""
        return -(-self.max_columns // self.tile_columns)

    @property
    def max_code_width(self) -> int:
        """Bits of the widest code."""
        return max(item.code_width for item in self.members)

    @property
    def scale_count(self) -> int:
        """Most scales of a record header."""
        return max(item.scale_count for item in self.members)

    def segment_slices(self, group_size: int) -> int:
        """Slices that share one record header, for groups of ``group_size`` columns.

        Raises
        ------
        :exc:`ValueError`
            If this layout cannot keep such groups apart.
        """
        if group_size % self.width:
            raise ValueError(
                f"Group size {group_size} must be a multiple of width {self.width}, so that a "
                f"cycle's weights share one scale; use width {_divisor_of(group_size, self.width)}"
            )
        slices = group_size // self.width
        if slices % self.tile_slices and self.tile_slices % slices:
            raise ValueError(
                f"Group size {group_size} must divide the tile's {self.tile_columns} columns or be "
                f"a multiple of them; use tile_slices {slices}"
            )
        return min(slices, self.tile_slices)

    @property
    def segment_choices(self) -> tuple[int, ...]:
        """Every number of slices that a record may have before the end of its tile."""
        listed = {self.segment_slices(size) for size in self.group_sizes}
        return tuple(sorted({*listed, self.tile_slices}))

    # -- rows of a block -------------------------------------------------------------------------

    @cached_property
    def place(self) -> Fields:
        """Which row of its block a lane has: row ``part * output_lanes + output``."""
        parts = self.lanes // self.output_lanes
        return Fields(output=(self.output_lanes - 1).bit_length(), part=(parts - 1).bit_length())

    @property
    def places_of_beat(self) -> int:
        """Blocks whose places one beat carries; 0 where there is but one lane."""
        return self.width // self.place.width if self.place.width else 0

    # -- codebooks -------------------------------------------------------------------------------

    @cached_property
    def codebooks(self) -> tuple[CodebookSlot, ...]:
        """Slots among the formats, in order of ids."""
        return tuple(item for item in self.members if isinstance(item, CodebookSlot))

    @cached_property
    def codebook_entry(self) -> Fields:
        """One entry of a codebook: its value in two's complement, and its terms.

        A term is ``2**(size - 1)``, taken off where ``negative`` is 1; there is none where ``size``
        is 0.
        """
        fields = Fields(value=self.codebook_width)
        for index in range(self.codebook_terms):
            fields[f"size_{index}"] = self.codebook_width.bit_length()
            fields[f"negative_{index}"] = 1
        return fields

    @property
    def codebook_bits(self) -> int:
        """Bits of all entries of all slots."""
        return sum(1 << item.code_width for item in self.codebooks) * self.codebook_entry.width

    @property
    def codebook_beats(self) -> int:
        """Beats that carry a layer's codebooks; 0 where there is no slot."""
        return self.beats_for(self.codebook_bits)

    # -- record headers ------------------------------------------------------------------------

    @property
    def format_width(self) -> int:
        """Bits of a format's id."""
        return max(1, (len(self.members) - 1).bit_length())

    @property
    def zero_width(self) -> int:
        """Bits of the widest zero-point; 0 where no format has one."""
        return max(item.code_width * item.has_zero_point for item in self.members)

    def record_header(self, item: NumberFormat) -> Fields:
        """Return the header of a record of that format; scales are two's complement."""
        fields = Fields(format=self.format_width)
        for index in range(item.scale_count):
            fields[f"scale_{index}"] = self.scale_width + 1
        if item.has_zero_point:
            fields["zero"] = item.code_width
        return fields

    @cached_property
    def header_width(self) -> int:
        """Bits of the longest header."""
        return max(self.record_header(item).width for item in self.members)

    @cached_property
    def slot_width(self) -> int:
        """Bits of a slot: a header takes as many slots as it needs.

        The size of one of the headers: that for which all formats together take the fewest bits.
        """
        sizes = [self.record_header(item).width for item in self.members]
        return min(sizes, key=lambda slot: (slot * sum(-(-size // slot) for size in sizes), -slot))

    @cached_property
    def header_slots(self) -> tuple[int, ...]:
        """Slots that a header takes, for each of the members."""
        sizes = [self.record_header(item).width for item in self.members]
        return tuple(-(-size // self.slot_width) for size in sizes)

    @property
    def max_slots(self) -> int:
        """Slots of the longest header."""
        return max(self.header_slots)

    @cached_property
    def batch_shape(self) -> tuple[int, int]:
        """Beats of a header batch, and its slots.

        Chosen to waste the fewest bits while a batch stays within 128 bits a lane (or the longest
        header).
        """
        slot = self.slot_width
        least = -(-self.max_slots * slot // self.width)
        choices = range(least, max(least, 128 // self.width) + 1)
        beats = min(choices, key=lambda n: (Fraction(n, n * self.width // slot), n))
        return beats, beats * self.width // slot

    # -- lengths in beats ----------------------------------------------------------------------

    def beats_for(self, bits: int) -> int:
        """Beats that hold ``bits`` bits, the first in the lowest bits."""
        return -(-bits // self.beat_width)

    @property
    def layer_header_beats(self) -> int:
        """Beats of a layer's header."""
        return self.beats_for(LAYER_HEADER.width)

    @property
    def span_header_beats(self) -> int:
        """Beats of a span's header."""
        return self.beats_for(SPAN_HEADER.width)

    @property
    def row_scale_beats(self) -> int:
        """Beats that carry one block's row scales, each lane's own in its bits."""
        return -(-ROW_SCALE_WIDTH // self.width)


def _divisor_of(group_size: int, width: int) -> int | str:
    fitting = [n for n in range(8, min(group_size, width) + 1, 8) if group_size % n == 0]
    return fitting[-1] if fitting else "8 and a group size that is a multiple of 8"
