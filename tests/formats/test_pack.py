"""The packer against a reader that takes the stream apart bit by bit."""

import dataclasses
import re
import zlib

import numpy as np
import pytest

from lutra.formats import BinaryCodingFormat, QuantizedMatrix, StreamLayout, member, pack
from lutra.sim import random_matrix


class Reader:
    """A weight stream read literally: beats as Python integers, one bit at a time.

    Only sizes are taken from the layout: lanes, width, slices of a tile, formats, bits of a scale.
    """

    def __init__(self, layout, beats):
        self.lanes, self.width = layout.lanes, layout.width
        self.tile_slices = layout.tile_slices
        self.scale_width = layout.scale_width
        self.members = layout.members
        self.fingerprint = layout.fingerprint
        self.beats = [sum(int(byte) << 8 * i for i, byte in enumerate(beat)) for beat in beats]
        self.position = 0
        self.section = b""

    def _beat(self):
        word = self.beats[self.position]
        self.position += 1
        self.section += bytes(word >> 8 * i & 0xFF for i in range(self.lanes * self.width // 8))
        return word

    def _words(self, bits):
        """Beats that hold so many bits, joined; unused bits must be zero."""
        count = -(-bits // (self.lanes * self.width))
        value = 0
        for index in range(count):
            value |= self._beat() << index * self.lanes * self.width
        assert value >> bits == 0
        return value

    def _lane_words(self, count):
        """Beats in which every lane has its own bits, joined for each lane."""
        values = [0] * self.lanes
        for index in range(count):
            word = self._beat()
            for lane in range(self.lanes):
                part = word >> lane * self.width & ((1 << self.width) - 1)
                values[lane] |= part << index * self.width
        return values

    def _checksum(self):
        expected = zlib.crc32(self.section)
        assert self._beat() == expected
        self.section = b""

    def _header_fields(self):
        fields = [("format", max(1, (len(self.members) - 1).bit_length()))]
        for index in range(max(item.scale_count for item in self.members)):
            fields.append((f"scale_{index}", self.scale_width + 1))
        zeros = [item.code_width for item in self.members if item.has_zero_point]
        return [*fields, ("zero", max(zeros))] if zeros else fields

    def _batch_shape(self, header_width):
        """Fewest beats a header, then fewest beats, of those within 128 bits a lane."""
        best = None
        for beats in range(1, 200):
            headers = beats * self.width // header_width
            if headers == 0 or (best is not None and beats * self.width > 128):
                continue
            if best is None or beats * best[1] < best[0] * headers:
                best = beats, headers
        assert best is not None
        return best

    def read(self, group_size):
        """Return what the layer holds, rows of padding included."""
        head = self._words(192)
        assert head & 0xFFFF == 0x754C
        assert head >> 16 & 0xFF == 1
        assert head >> 24 & 0xFF == 0
        assert head >> 32 & 0xFFFFFFFF == self.fingerprint
        self.rows, self.columns = head >> 64 & 0xFFFFFFFF, head >> 96 & 0xFFFFFFFF
        self.blocks = head >> 128 & 0xFFFFFFFF
        self.segment_slices, tiles = head >> 160 & 0xFFFF, head >> 176
        assert self.blocks == -(-self.rows // self.lanes)
        assert tiles == -(-self.columns // (self.tile_slices * self.width))

        self.row_scales, self.codes, self.groups = {}, {}, {}
        for block in range(self.blocks):
            scales = self._lane_words(-(-32 // self.width))
            for lane in range(self.lanes):
                self.row_scales[block * self.lanes + lane] = scales[lane]
        self._checksum()
        for tile in range(tiles):
            self._tile(tile, group_size)
        assert self.position == len(self.beats)
        return self

    def _tile(self, index, group_size):
        head = self._words(96)
        first = index * self.tile_slices
        slices = min(self.tile_slices, -(-self.columns // self.width) - first)
        assert head & 0xFFFF == 0x6954
        assert head >> 16 & 0xFFFF == index
        assert head >> 32 & 0xFFFF == slices
        assert head >> 48 & 0xFFFF == 0
        begin = self.position

        records = []
        for block in range(self.blocks):
            for start in range(0, slices, self.segment_slices):
                length = min(self.segment_slices, slices - start)
                records.append((block, first + start, length))
        fields = self._header_fields()
        header_width = sum(width for _, width in fields)
        batch_beats, batch_headers = self._batch_shape(header_width)
        headers = []

        def take_batch():
            lane_headers = self._lane_words(batch_beats)
            for part in range(batch_headers):
                mask = (1 << header_width) - 1
                headers.append([bits >> part * header_width & mask for bits in lane_headers])
            unused = batch_headers * header_width
            assert all(bits >> unused == 0 for bits in lane_headers)

        take_batch()
        for number, (block, start, length) in enumerate(records):
            # The next batch is due before the codes of the last record that this one serves.
            if number + 1 == len(headers) and number + 1 < len(records):
                take_batch()
            self._record(block, start, length, headers[number], fields, group_size)
        assert all(header == [0] * self.lanes for header in headers[len(records) :])
        assert head >> 64 == self.position - begin
        self._checksum()

    def _record(self, block, start, length, headers, fields, group_size):
        values = []
        for header in headers:
            taken = {}
            for name, width in fields:
                taken[name] = header & ((1 << width) - 1)
                if name.startswith("scale") and taken[name] >> (width - 1):
                    taken[name] -= 1 << width
                header >>= width
            values.append(taken)
        widest = max(self.members[taken["format"]].code_width for taken in values)
        group = start * self.width // group_size
        for lane in range(self.lanes):
            key = block * self.lanes + lane, group
            assert self.groups.setdefault(key, values[lane]) == values[lane]
        for number in range(start, start + length):
            bits = [self._beat() for _ in range(widest)]
            for lane in range(self.lanes):
                for offset in range(self.width):
                    position = lane * self.width + offset
                    code = sum((beat >> position & 1) << bit for bit, beat in enumerate(bits))
                    self.codes[block * self.lanes + lane, number * self.width + offset] = code


def _check(matrix, layout):
    packed = pack(matrix, layout)
    assert packed.beats.dtype == np.uint8
    assert packed.beats.shape[1] * 8 == layout.beat_width
    assert (packed.rows, packed.columns) == (matrix.rows, matrix.columns)
    assert packed.bits == packed.beats.size * 8
    reader = Reader(layout, packed.beats).read(matrix.group_size)

    assert (reader.rows, reader.columns) == (matrix.rows, matrix.columns)
    scales = matrix.row_scales.view(np.uint32)
    for row, bits in reader.row_scales.items():
        assert bits == (int(scales[row]) if row < matrix.rows else 0)
    for (row, column), code in reader.codes.items():
        real = row < matrix.rows and column < matrix.columns
        assert code == (matrix.codes[row, column] if real else 0), (row, column)
    assert {(n, k) for n in range(matrix.rows) for k in range(matrix.columns)} <= set(reader.codes)
    for row in range(matrix.rows):
        for group in range(matrix.groups):
            taken = reader.groups[row, group]
            item = matrix.members[matrix.format_ids[row, group]]
            assert layout.members[taken["format"]] == item
            assert taken.get("zero", 0) == matrix.zeros[row, group]
            for index in range(matrix.scales.shape[2]):
                assert taken[f"scale_{index}"] == matrix.scales[row, group, index]
    for (row, group), taken in reader.groups.items():
        if row >= matrix.rows:  # padding: the last row's format, so that codes get no wider
            assert taken == {
                name: reader.groups[matrix.rows - 1, group]["format"] if name == "format" else 0
                for name in taken
            }
    return packed, reader


def _layout(formats, **changes):
    base = {
        "lanes": 4,
        "width": 16,
        "tile_slices": 4,
        "formats": formats,
        "group_sizes": (16, 32, 64, 128),
        "max_rows": 64,
        "max_columns": 512,
    }
    return StreamLayout(**{**base, **changes})


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 63, 64, 65, 130])
def test_tails(rows, columns):
    matrix = random_matrix("bitmod4", rows, columns, 32, seed=rows * 1000 + columns)
    _check(matrix, _layout(("bitmod4",)))


@pytest.mark.parametrize("group_size", [16, 32, 64, 128, 150, 1000])
@pytest.mark.parametrize("formats", ["bitmod3", "int2_asym", "bcq3_asym"])
def test_group_sizes(formats, group_size):
    """Groups of a slice, of several, of a tile, of two tiles, and whole rows."""
    matrix = random_matrix(formats, 6, 150, group_size, seed=group_size)
    packed, reader = _check(matrix, _layout((formats,)))
    assert packed.rows == 6
    assert reader.segment_slices == min(4, group_size // 16 if group_size < 150 else 4)


MIXTURES = [
    ("int2", "int8"),
    ("bcq1", "bitmod4", "int3_asym"),
    ("bcq4_asym", "ternary", "int8_asym", "bitmod3"),
]


@pytest.mark.parametrize("formats", MIXTURES, ids="+".join)
@pytest.mark.parametrize(
    ("rows", "columns", "group_size"), [(8, 64, 16), (7, 90, 16), (5, 200, 64), (9, 70, 128)]
)
def test_mixtures(formats, rows, columns, group_size):
    layout = _layout(formats)
    matrix = random_matrix(layout.members, rows, columns, group_size, seed=rows)
    assert len(np.unique(matrix.format_ids)) > 1
    _check(matrix, layout)


@pytest.mark.parametrize(
    ("lanes", "width", "tile_slices"),
    [
        (1, 32, 1),
        (1, 64, 3),
        (2, 16, 8),
        (3, 24, 2),
        (4, 8, 4),
        (5, 8, 1),
        (2, 128, 2),
        (16, 16, 2),
    ],
)
@pytest.mark.parametrize("scale_width", [1, 8, 16])
def test_shapes(lanes, width, tile_slices, scale_width):
    """Headers shorter and longer than a beat; row scales in one beat and in four."""
    layout = _layout(
        ("bcq2_asym", "int4_asym"),
        lanes=lanes,
        width=width,
        tile_slices=tile_slices,
        scale_width=scale_width,
        group_sizes=(width, width * tile_slices),
    )
    for group_size in (width, width * tile_slices):
        matrix = random_matrix(
            layout.members, 7, 150, group_size, seed=lanes, scale_width=scale_width
        )
        _check(matrix, layout)


def test_members_may_stand_in_another_order():
    """Ids of a matrix and ids of the stream are two things."""
    layout = _layout(("bitmod4", "int4_asym", "bcq2"))
    matrix = random_matrix(layout.members[::-1], 6, 100, 32, seed=3)
    _check(matrix, layout)
    _check(random_matrix((member("bitmod4_m8"), member("bcq2")), 6, 100, 32, seed=4), layout)


@pytest.mark.parametrize("formats", [("int4",), ("bcq2_asym",), ("int2", "bitmod4")])
def test_useful_cycles(formats):
    """Every real row wants one cycle for each plane of each of its slices."""
    layout = _layout(formats)
    matrix = random_matrix(layout.members, 7, 90, 32, seed=5)
    packed = pack(matrix, layout)
    cycles = 0
    for row in range(7):
        for start in range(0, 90, 16):
            item = matrix.members[matrix.format_ids[row, start // 32]]
            cycles += len(item.planes)
    assert packed.useful_lane_cycles == cycles
    assert packed.useful_cycles == cycles / 4


def test_codes_are_stored_at_their_true_width():
    """A record takes as many beats a slice as its widest code has bits, no more."""
    layout = _layout(("int2", "int8"), lanes=2)
    lengths = []
    for formats in ("int2", "int8"):
        matrix = random_matrix(formats, 2, 64, 16, seed=1)
        lengths.append(len(_check(matrix, layout)[0].beats))
    assert lengths[1] - lengths[0] == 4 * (8 - 2)


def test_padding_rows_cost_no_wider_codes():
    """One row of a narrow format in an engine that decodes a wide one as its first."""
    layout = _layout(("int8", "int2"))
    narrow, wide = (
        _check(random_matrix(name, 1, 64, 16, seed=1), layout)[0] for name in ("int2", "int8")
    )
    assert len(wide.beats) - len(narrow.beats) == 4 * (8 - 2)


def test_every_bit_of_a_code_counts():
    """Changing one code changes one bit of one code beat and the tile's checksum."""
    layout = _layout(("int4",))
    matrix = random_matrix("int4", 4, 64, 32, seed=2)
    before = pack(matrix, layout).beats
    codes = matrix.codes.copy()
    codes[2, 37] ^= 4
    after = pack(dataclasses.replace(matrix, codes=codes), layout).beats
    changed = np.flatnonzero((before != after).any(axis=1))
    assert len(changed) == 2
    assert changed[1] == len(before) - 1
    difference = np.unpackbits(before[changed[0]] ^ after[changed[0]], bitorder="little")
    assert np.flatnonzero(difference).tolist() == [2 * 16 + 37 % 16]


@pytest.mark.parametrize(
    ("layout", "matrix", "sentence"),
    [
        (
            _layout(("int4",)),
            random_matrix("bitmod3", 4, 64, 32, seed=0),
            "Format 'bitmod3_p3' is not one that the configuration decodes: int4",
        ),
        (
            _layout(("int4",), group_sizes=(16, 32)),
            random_matrix("int4", 4, 128, 64, seed=0),
            "Group size 64 must be one of the configuration's (16, 32) or a whole row of 128",
        ),
        (
            _layout(("int4",), group_sizes=()),
            random_matrix("int4", 4, 128, 64, seed=0),
            "Group size 64 must be one of the configuration's (none) or a whole row of 128",
        ),
        (
            _layout(("int4",), max_rows=3),
            random_matrix("int4", 4, 64, 32, seed=0),
            "A layer of 4 x 64 is larger than the configuration's limit of 3 x 512",
        ),
        (
            _layout(("int4",), max_columns=63),
            random_matrix("int4", 4, 64, 32, seed=0),
            "A layer of 4 x 64 is larger than the configuration's limit of 64 x 63",
        ),
        (
            _layout(("int4",), scale_width=7),
            dataclasses.replace(
                random_matrix("int4", 4, 64, 32, seed=0),
                scales=np.full((4, 2, 1), -255, dtype=np.int32),
            ),
            "A group scale of 255 needs scale_width 8; the configuration has 7",
        ),
    ],
)
def test_refused(layout, matrix, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        pack(matrix, layout)


def test_narrow_scales_of_a_wide_matrix_pass():
    """What counts is the largest scale, not the width that the matrix was made with."""
    matrix = dataclasses.replace(
        random_matrix("int4", 4, 64, 32, seed=0, scale_width=16),
        scales=np.full((4, 2, 1), -127, dtype=np.int32),
    )
    _check(matrix, _layout(("int4",), scale_width=7))


def test_whole_rows_need_no_group_size():
    layout = _layout(("int4",), group_sizes=())
    _check(random_matrix("int4", 5, 150, 150, seed=0), layout)
    _check(random_matrix("int4", 5, 150, 4096, seed=0), layout)


def test_reader_sees_a_flipped_bit():
    """The reader's own checks can fail: any flip is noticed before the layer is read."""
    layout = _layout(("int2",), lanes=2)
    matrix = random_matrix("int2", 2, 32, 16, seed=0)
    beats = pack(matrix, layout).beats
    for bit in range(0, beats.size * 8, 5):
        flipped = beats.copy()
        flipped.reshape(-1)[bit // 8] ^= 1 << bit % 8
        with pytest.raises((AssertionError, IndexError)):
            Reader(layout, flipped).read(16)


def test_binary_coding_has_no_zero_point_field():
    layout = _layout(("bcq2_asym",))
    assert "zero" not in layout.record_header
    assert isinstance(layout.members[0], BinaryCodingFormat)
    matrix = random_matrix("bcq2_asym", 4, 32, 16, seed=1)
    assert isinstance(matrix, QuantizedMatrix)
    _check(matrix, layout)
