"""The stream's layout: what is refused, and the numbers that follow."""

import dataclasses
import re
import zlib

import pytest

from lutra.formats import CATALOG, CODEBOOKS, StreamLayout
from lutra.formats.layout import FRAME_BEATS, LAYER_HEADER, SPAN_HEADER, Fields

BASE = StreamLayout(
    lanes=4,
    width=16,
    tile_slices=4,
    formats=("bitmod4", "int4_asym", "bcq2"),
    group_sizes=(16, 32, 64, 128),
    max_rows=10,
    max_columns=300,
)


def test_headers_of_the_stream():
    assert list(LAYER_HEADER.items()) == [
        ("magic", 16),
        ("version", 8),
        ("flags", 8),
        ("layout", 32),
        ("rows", 32),
        ("columns", 32),
        ("blocks", 32),
        ("segment_slices", 16),
        ("tiles", 16),
        ("span_tiles", 16),
    ]
    assert list(SPAN_HEADER.items()) == [("magic", 16), ("index", 16), ("beats", 32)]
    assert (LAYER_HEADER.width, SPAN_HEADER.width, FRAME_BEATS) == (208, 64, 4096)


def test_fields_pack_from_the_lowest_bit():
    fields = Fields(low=3, middle=1, high=4)
    assert fields.width == 8
    assert fields.pack(low=5, middle=1, high=9) == 9 << 4 | 1 << 3 | 5
    with pytest.raises(ValueError, match=r"^Field 'high' has 4 bits; 16 does not fit$"):
        fields.pack(low=0, middle=0, high=16)
    with pytest.raises(ValueError, match=r"^Field 'low' has 3 bits; -1 does not fit$"):
        fields.pack(low=-1, middle=0, high=0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lanes": 0}, "lanes must be an integer in 1..256, not 0"),
        ({"lanes": 257}, "lanes must be an integer in 1..256, not 257"),
        ({"lanes": 4.0}, "lanes must be an integer in 1..256, not 4.0"),
        ({"width": 0}, "width must be an integer in 8..512, not 0"),
        ({"width": 520}, "width must be an integer in 8..512, not 520"),
        ({"width": 12}, "width must be a multiple of 8, not 12"),
        ({"tile_slices": 0}, "tile_slices must be an integer in 1..256, not 0"),
        ({"tile_slices": 257}, "tile_slices must be an integer in 1..256, not 257"),
        ({"scale_width": 0}, "scale_width must be an integer in 1..31, not 0"),
        ({"scale_width": 32}, "scale_width must be an integer in 1..31, not 32"),
        ({"output_lanes": 0}, "output_lanes must be an integer in 1..256, not 0"),
        ({"output_lanes": 1.0}, "output_lanes must be an integer in 1..256, not 1.0"),
        ({"output_lanes": 3}, "output_lanes must divide the 4 lanes, not 3"),
        ({"output_lanes": 8}, "output_lanes must divide the 4 lanes, not 8"),
        ({"ahead": 1}, "ahead must be an integer in 2..1024, not 1"),
        ({"ahead": 1025}, "ahead must be an integer in 2..1024, not 1025"),
        ({"ahead": "16"}, "ahead must be an integer in 2..1024, not '16'"),
        ({"max_rows": 0}, "max_rows must be an integer in 1..1048576, not 0"),
        ({"max_columns": 2**20 + 1}, "max_columns must be an integer in 1..1048576, not 1048577"),
        (
            {"lanes": 1, "width": 16},
            "lanes * width must be at least 32 bits for the checksum, not 16",
        ),
        ({"formats": ()}, "formats must name at least one format, not ()"),
        ({"formats": ("int4", "int4")}, "formats must name each format once, not int4, int4"),
        (
            {"formats": ("int9",)},
            (
                f"Unknown format 'int9'; known formats: {', '.join([*CATALOG][:8])}, … of "
                f"{len(CATALOG | CODEBOOKS)}, which `lutra formats` lists; "
                f"closest to it: int8, int7, int6"
            ),
        ),
        (
            {"lanes": 4, "width": 8, "tile_slices": 1, "group_sizes": (), "max_columns": 2**20},
            (
                "max_columns 1048576 makes 131072 tiles of 8 columns, over the stream's 65535; "
                "use wider tiles"
            ),
        ),
        ({"group_sizes": (0,)}, "group_sizes must be positive integers, not 0"),
        ({"group_sizes": (-16,)}, "group_sizes must be positive integers, not -16"),
        ({"group_sizes": (16, "32")}, "group_sizes must be positive integers, not '32'"),
        (
            {"group_sizes": (24,)},
            (
                "Group size 24 must be a multiple of width 16, so that a cycle's weights share "
                "one scale; use width 8"
            ),
        ),
        (
            {"group_sizes": (48,)},
            (
                "Group size 48 must divide the tile's 64 columns or be a multiple of them; "
                "use tile_slices 3"
            ),
        ),
    ],
)
def test_refused(changes, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        dataclasses.replace(BASE, **changes)


def test_derived_numbers():
    names = [item.name for item in BASE.members]
    assert names == ["bitmod4_p5", "bitmod4_m5", "bitmod4_p8", "bitmod4_m8", "int4_asym", "bcq2"]
    assert BASE.beat_width == 64
    assert BASE.tile_columns == 64
    assert BASE.max_blocks == 3
    assert BASE.max_tiles == 5
    assert BASE.max_code_width == 4
    assert BASE.scale_count == 2
    assert BASE.layer_header_beats == 4
    assert BASE.span_header_beats == 1
    assert BASE.row_scale_beats == 2
    assert [BASE.beats_for(bits) for bits in (1, 64, 65)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("lanes", "output_lanes", "width", "output", "part", "blocks"),
    [
        (1, 1, 32, 0, 0, 0),  # no choice
        (4, 4, 16, 2, 0, 8),
        (4, 2, 16, 1, 1, 8),
        (4, 1, 16, 0, 2, 8),
        (6, 1, 16, 0, 3, 5),  # of six rows; a bit is left over
        (6, 2, 16, 1, 2, 5),
        (256, 1, 8, 0, 8, 1),
        (8, 1, 512, 0, 3, 170),
    ],
)
def test_places(lanes, output_lanes, width, output, part, blocks):
    layout = dataclasses.replace(
        BASE, lanes=lanes, output_lanes=output_lanes, width=width, group_sizes=()
    )
    assert layout.place == {"output": output, "part": part}
    assert layout.places_of_beat == blocks


@pytest.mark.parametrize(("group_size", "slices"), [(16, 1), (32, 2), (64, 4), (128, 4), (192, 4)])
def test_segment_slices(group_size, slices):
    assert BASE.segment_slices(group_size) == slices


def test_segment_choices():
    """Those of the group sizes, and whole tiles."""
    assert BASE.segment_choices == (1, 2, 4)
    assert dataclasses.replace(BASE, group_sizes=()).segment_choices == (4,)
    assert dataclasses.replace(BASE, group_sizes=(256, 32)).segment_choices == (2, 4)


@pytest.mark.parametrize(
    ("formats", "fields"),
    [
        (("int4",), {"format": 1, "scale_0": 9}),
        (("bitmod4",), {"format": 2, "scale_0": 9}),
        (("bitmod4", "int4"), {"format": 3, "scale_0": 9}),
        (("bcq3_asym",), {"format": 1, "scale_0": 9, "scale_1": 9, "scale_2": 9, "scale_3": 9}),
        (("int3_asym", "int8"), {"format": 1, "scale_0": 9, "zero": 3}),
        (("bcq1", "int2_asym"), {"format": 1, "scale_0": 9}),
    ],
)
def test_record_header(formats, fields):
    """Fields of the first format: what others have is no matter."""
    layout = dataclasses.replace(BASE, formats=formats)
    header = layout.record_header(layout.members[0])
    assert list(header.items()) == list(fields.items())
    wide = dataclasses.replace(layout, scale_width=16)
    assert wide.record_header(wide.members[0])["scale_0"] == 17


@pytest.mark.parametrize(
    ("formats", "slot_width", "slots"),
    [
        (("int4",), 10, (1,)),
        (("int4", "int4_asym"), 14, (1, 1)),  # 10 bits would take 10 + 20
        (("int4", "int2", "int3", "int4_asym"), 11, (1, 1, 1, 2)),  # 15 bits: 60, these 55
        (("bitmod3", "bcq4"), 12, (1, 1, 1, 1, 4)),  # of 39 bits
        (("bcq4", "bcq3"), 37, (1, 1)),
        (("bcq2", "bcq3_asym"), 19, (1, 2)),
    ],
)
def test_slots(formats, slot_width, slots):
    layout = dataclasses.replace(BASE, formats=formats)
    assert (layout.slot_width, layout.header_slots) == (slot_width, slots)
    assert layout.max_slots == max(slots)
    assert layout.header_width == max(layout.record_header(m).width for m in layout.members)


@pytest.mark.parametrize(
    ("width", "formats", "shape"),
    [
        (8, ("int4",), (5, 4)),  # 10 bits: 4 in 5 beats of 8 waste nothing
        (16, ("int4",), (5, 8)),
        (128, ("int4",), (1, 12)),
        (512, ("int4",), (1, 51)),  # one beat may pass 128 bits
        (8, ("bcq4_asym",), (6, 1)),
        (8, ("int4", "bcq4_asym"), (10, 8)),  # slots of 10 bits; the longest header has 5
    ],
)
def test_batch_shape_of_known_headers(width, formats, shape):
    layout = dataclasses.replace(BASE, width=width, formats=formats, group_sizes=())
    slot, longest = layout.slot_width, layout.max_slots
    beats, slots = layout.batch_shape
    assert slots == beats * width // slot >= longest
    # By brute force over what is allowed: no choice has fewer beats a slot.
    for other in range(1, 200):
        fits = other * width // slot
        least = fits >= longest > (other - 1) * width // slot
        if fits >= longest and (other * width <= 128 or least):
            assert beats * fits <= other * slots
    assert (beats, slots) == shape


def test_fingerprint():
    lines = [
        "4 16 4 2 20 8",
        "1 0 1,2,1,0",
        "2 1 1,a,0,0 2,c,0,0",
    ]
    layout = dataclasses.replace(
        BASE, formats=("bcq1", "int2_asym"), output_lanes=2, ahead=20, scale_width=8
    )
    text = "".join(f"{line}\n" for line in lines)
    assert layout.fingerprint == zlib.crc32(text.encode())


def test_fingerprint_covers_what_the_streams_codes_mean():
    """Planes of the numbers that the stream has for codes: bits of them, and one table."""
    lines = ["4 16 4 1 16 8"]
    for special in (
        "1,{},0,0 2,{},0,0 -4,{},0,0 1,ef,0,0",
        "-1,{},0,0 -2,{},0,0 4,{},0,0 -1,ef,0,0",
    ):
        lines.append("3 0 " + special.format("aa", "cc", "f0"))
    for special in (
        "-4,{},0,0 2,{},0,0 4,{},0,0 -1,81,0,0",
        "4,{},0,0 -2,{},0,0 -4,{},0,0 1,81,0,0",
    ):
        lines.append("3 0 " + special.format("aa", "cc", "f0"))
    layout = dataclasses.replace(BASE, formats=("bitmod3",), scale_width=8)
    text = "".join(f"{line}\n" for line in lines)
    assert layout.fingerprint == zlib.crc32(text.encode())


def test_fingerprint_tells_what_the_stream_depends_on():
    different = [
        BASE,
        dataclasses.replace(BASE, lanes=8),
        dataclasses.replace(BASE, width=8),
        dataclasses.replace(BASE, tile_slices=8),
        dataclasses.replace(BASE, scale_width=9),
        dataclasses.replace(BASE, output_lanes=2),
        dataclasses.replace(BASE, ahead=17),
        dataclasses.replace(BASE, formats=("int4_asym", "bitmod4", "bcq2")),
        dataclasses.replace(BASE, formats=("bitmod4", "int4_asym")),
        dataclasses.replace(BASE, formats=("bitmod4", "int4", "bcq2")),
        dataclasses.replace(BASE, formats=("bitmod4", "int4_asym", "bcq2_asym")),
    ]
    assert len({layout.fingerprint for layout in different}) == len(different)


def test_fingerprint_leaves_limits_out():
    """A stream for a small engine runs on a larger one of the same shape."""
    same = [
        dataclasses.replace(BASE, max_rows=4096),
        dataclasses.replace(BASE, max_columns=4096),
        dataclasses.replace(BASE, group_sizes=(64,)),
    ]
    assert {layout.fingerprint for layout in same} == {BASE.fingerprint}
