"""The weight stream's layout: which bits stand where. Packer and hardware are both built from it.

``docs/weight-stream.md`` describes the same layout for people.
"""

import zlib
from dataclasses import dataclass
from functools import cached_property

from .catalog import family
from .number_format import NumberFormat

__all__ = [
    "CRC_WIDTH",
    "LAYER_HEADER",
    "LAYER_MAGIC",
    "ROW_SCALE_WIDTH",
    "STREAM_VERSION",
    "TILE_HEADER",
    "TILE_MAGIC",
    "Fields",
    "StreamLayout",
]

STREAM_VERSION = 1
LAYER_MAGIC = 0x754C  # "Lu"
TILE_MAGIC = 0x6954  # "Ti"
CRC_WIDTH = 32
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
)
TILE_HEADER = Fields(magic=16, index=16, slices=16, flags=16, beats=32)


@dataclass(frozen=True, kw_only=True)
class StreamLayout:
    """Shape of the weight stream of one engine.

    A *beat* is one word of the stream: ``lanes * width`` bits, lane ``l`` at bit ``l * width``. A
    *slice* is ``width`` consecutive columns, a *tile* is ``tile_slices`` slices, a *block* is
    ``lanes`` consecutive rows, and a *record* is what one block has of one group within one tile.

    Parameters
    ----------
    lanes : int
        Rows computed side by side, 1 to 256.
    width : int
        Weights that each lane takes in a cycle; a multiple of 8, 8 to 512.
    tile_slices : int
        Slices whose tables are held at a time, 1 to 256.
    formats : tuple of str
        Names of the catalogue's families that the engine decodes.
    group_sizes : tuple of int
        Group sizes accepted beside whole rows; multiples of ``width`` that divide a tile or are
        multiples of one.
    scale_width : int
        Magnitude bits of a group scale, 1 to 16.
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
    max_rows: int = 4096
    max_columns: int = 4096

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("lanes", self.lanes, 1, 256),
            ("width", self.width, 8, 512),
            ("tile_slices", self.tile_slices, 1, 256),
            ("scale_width", self.scale_width, 1, 16),
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
        if self.max_tiles >> LAYER_HEADER["tiles"]:
            raise ValueError(
                f"max_columns {self.max_columns} makes {self.max_tiles} tiles of "
                f"{self.tile_columns} columns, over the stream's 65535; use wider tiles"
            )
        if not self.formats:
            raise ValueError(f"formats must name at least one format, not {self.formats!r}")
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"formats must name each format once, not {', '.join(self.formats)}")
        for group_size in self.group_sizes:
            if not isinstance(group_size, int) or group_size < 1:
                raise ValueError(f"group_sizes must be positive integers, not {group_size!r}")
            self.segment_slices(group_size)
        _ = self.members

    @cached_property
    def members(self) -> tuple[NumberFormat, ...]:
        """Formats in the order of their ids in the stream."""
        return tuple(item for name in self.formats for item in family(name).members)

    @cached_property
    def fingerprint(self) -> int:
        """CRC-32 that tells this layout from others: a stream packed for another is refused by it.

        It covers an ASCII text: one line with ``lanes width tile_slices scale_width``, then one for
        each member with its code width, 1 or 0 for a zero-point, and for each plane
        ``coefficient,truth,bipolar,scale_index`` with the truth table in hexadecimal; single spaces
        between, a line feed after each line.
        """
        lines = [f"{self.lanes} {self.width} {self.tile_slices} {self.scale_width}"]
        for item in self.members:
            planes = (
                f"{p.coefficient},{p.truth:x},{int(p.bipolar)},{p.scale_index}" for p in item.planes
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
    def max_planes(self) -> int:
        """Cycles of the slowest format for one slice."""
        return max(len(item.planes) for item in self.members)

    @property
    def scale_count(self) -> int:
        """Scales in each lane's record header."""
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

    # -- record headers ------------------------------------------------------------------------

    @cached_property
    def record_header(self) -> Fields:
        """One lane's header of one record; scales are two's complement."""
        fields = Fields(format=max(1, (len(self.members) - 1).bit_length()))
        for index in range(self.scale_count):
            fields[f"scale_{index}"] = self.scale_width + 1
        if any(item.has_zero_point for item in self.members):
            fields["zero"] = max(m.code_width for m in self.members if m.has_zero_point)
        return fields

    @cached_property
    def batch_shape(self) -> tuple[int, int]:
        """Beats of a header batch, and the records whose headers it holds.

        Chosen to waste the fewest bits while a batch stays within 128 bits a lane (or one header).
        """
        header_width = self.record_header.width
        least = -(-header_width // self.width)
        choices = range(least, max(least, 128 // self.width) + 1)
        beats = min(choices, key=lambda n: (n / (n * self.width // header_width), n))
        return beats, beats * self.width // header_width

    # -- lengths in beats ----------------------------------------------------------------------

    def beats_for(self, bits: int) -> int:
        """Beats that hold ``bits`` bits, the first in the lowest bits."""
        return -(-bits // self.beat_width)

    @property
    def layer_header_beats(self) -> int:
        """Beats of a layer's header."""
        return self.beats_for(LAYER_HEADER.width)

    @property
    def tile_header_beats(self) -> int:
        """Beats of a tile's header."""
        return self.beats_for(TILE_HEADER.width)

    @property
    def row_scale_beats(self) -> int:
        """Beats that carry one block's row scales, each lane's own in its bits."""
        return -(-ROW_SCALE_WIDTH // self.width)


def _divisor_of(group_size: int, width: int) -> int | str:
    fitting = [n for n in range(8, min(group_size, width) + 1, 8) if group_size % n == 0]
    return fitting[-1] if fitting else "8 and a group size that is a multiple of 8"
