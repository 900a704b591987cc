"""The packer against a reader that takes the stream apart bit by bit."""

import dataclasses
import itertools
import random
import re
import zlib
from functools import cached_property

import numpy as np
import pytest

from lutra.formats import (
    CATALOG,
    BinaryCodingFormat,
    QuantizedMatrix,
    StreamLayout,
    member,
    pack,
)
from lutra.sim import random_matrix


class Reader:
    """A weight stream read literally: beats as Python integers, one bit at a time.

    Only sizes are taken from the layout: lanes, width, slices of a tile, lanes of the output,
    formats, bits of a scale.
    """

    def __init__(self, layout, beats):
        self.lanes, self.width = layout.lanes, layout.width
        self.tile_slices = layout.tile_slices
        self.output_lanes, self.ahead = layout.output_lanes, layout.ahead
        self.scale_width = layout.scale_width
        self.members = layout.members
        self.fingerprint = layout.fingerprint
        self.beats = [sum(int(byte) << 8 * i for i, byte in enumerate(beat)) for beat in beats]
        self.position = 0
        self.section = []

    def _beat(self):
        word = self.beats[self.position]
        self.position += 1
        self.section.append(word)
        return word

    def _header(self, bits):
        """Beats that hold so many bits, joined; unused bits must be zero."""
        count = -(-bits // (self.lanes * self.width))
        value = 0
        for index in range(count):
            value |= self._beat() << index * self.lanes * self.width
        assert value >> bits == 0
        return value

    def _words(self):
        """Cut the next beat into the words of the lanes."""
        beat = self._beat()
        return [beat >> lane * self.width & ((1 << self.width) - 1) for lane in range(self.lanes)]

    def _checksum(self):
        expected = zlib.crc32(b"".join(map(self._fold, self.section)))
        assert self._beat() == expected
        self.section = []

    def _fold(self, beat):
        """Sum a wide beat along words and diagonals, bit by bit."""
        bits = self.lanes * self.width
        if bits <= 128:
            return beat.to_bytes(bits // 8, "little")
        size, diagonals = next(
            pair for pair in ((32, 37), (64, 67), (128, 131), (256, 269)) if pair[0] ** 2 >= bits
        )
        sums = [0] * (diagonals + -(-bits // size))
        for position in range(bits):
            word, bit = divmod(position, size)
            sums[(word + bit) % diagonals] ^= beat >> position & 1
            sums[diagonals + word] ^= beat >> position & 1
        sums += [0] * (-len(sums) % 8)
        return bytes(sum(sums[i + bit] << bit for bit in range(8)) for i in range(0, len(sums), 8))

    def read(self, group_size):
        """Return what the layer holds, rows of padding included."""
        head = self._header(208)
        assert head & 0xFFFF == 0x754C
        assert head >> 16 & 0xFF == 4
        assert head >> 24 & 0xFF == 0
        assert head >> 32 & 0xFFFFFFFF == self.fingerprint
        self.rows, self.columns = head >> 64 & 0xFFFFFFFF, head >> 96 & 0xFFFFFFFF
        self.blocks = head >> 128 & 0xFFFFFFFF
        self.segment_slices, self.tiles = head >> 160 & 0xFFFF, head >> 176 & 0xFFFF
        self.span_tiles = head >> 192
        self.slices = -(-self.columns // self.width)
        assert self.blocks == -(-self.rows // self.lanes)
        assert self.tiles == -(-self.columns // (self.tile_slices * self.width))
        assert 1 <= self.span_tiles <= self.tiles

        self._read_rows()
        self._checksum()
        self.group_size = group_size
        self.codes, self.groups = {}, {}
        self.records = [[] for _ in range(self.lanes)]  # (format, slices) in order
        self.used = [[0] * self.tiles for _ in range(self.lanes)]  # words of each tile
        self.padding = [[] for _ in range(self.lanes)]  # words of each span
        readers = [self._lane(lane) for lane in range(self.lanes)]
        for reader in readers:
            next(reader)
        for index in range(-(-self.tiles // self.span_tiles)):
            self._span(index, readers)
        assert self.position == len(self.beats)
        return self

    def _read_rows(self):
        """Read places and row scales; note the row that each lane has of each block."""
        parts = self.lanes // self.output_lanes
        output_bits = next(bits for bits in range(9) if 1 << bits >= self.output_lanes)
        place_bits = output_bits + next(bits for bits in range(9) if 1 << bits >= parts)
        self.row_scales, self.row_of = {}, {}
        places = []
        for block in range(self.blocks):
            if place_bits and not places:
                words = self._words()
                taken = min(self.width // place_bits, self.blocks - block)
                for index in range(taken):
                    mask = (1 << place_bits) - 1
                    places.append([word >> index * place_bits & mask for word in words])
                assert all(word >> taken * place_bits == 0 for word in words)
            own = places.pop(0) if place_bits else [0] * self.lanes
            outputs = [place & (1 << output_bits) - 1 for place in own]
            own = [place >> output_bits for place in own]
            for first in range(self.output_lanes):  # each has one row of every part
                assert sorted(own[first :: self.output_lanes]) == list(range(parts))
            scales = [0] * self.lanes
            for part in range(-(-32 // self.width)):
                for lane, word in enumerate(self._words()):
                    scales[lane] |= word << part * self.width
            for lane in range(self.lanes):
                row = block * self.lanes + own[lane] * self.output_lanes + outputs[lane]
                self.row_of[block, lane] = row
                self.row_scales[row] = scales[lane]
        assert not places
        assert sorted(self.row_of.values()) == list(range(self.blocks * self.lanes))

    def _span(self, index, readers):
        """Read one span, handing each lane its words until it has read the span's last tile."""
        head = self._header(64)
        assert head & 0xFFFF == 0x7053
        assert head >> 16 & 0xFFFF == index
        beats = head >> 32
        tiles = min((index + 1) * self.span_tiles, self.tiles)
        for lane in range(self.lanes):
            self.padding[lane].append(0)
        for number in range(beats):
            for lane, word in enumerate(self._words()):
                if self.finished[lane] < tiles:
                    readers[lane].send(word)
                else:
                    assert word == 0
                    self.padding[lane][-1] += 1
            if (number + 1) % 4096 == 0 or number == beats - 1:
                self._checksum()
        assert all(finished == tiles for finished in self.finished), "a lane has too few words"
        assert min(padding[-1] for padding in self.padding) == 0, "too many words"

    @cached_property
    def finished(self):
        """Tiles of which each lane has read all."""
        return [0] * self.lanes

    # -- one lane -------------------------------------------------------------------------------

    def _header_fields(self, number):
        """Fields of a header of the format with that id."""
        item = self.members[number]
        fields = [("format", max(1, (len(self.members) - 1).bit_length()))]
        for index in range(item.scale_count):
            fields.append((f"scale_{index}", self.scale_width + 1))
        return [*fields, ("zero", item.code_width)] if item.has_zero_point else fields

    @cached_property
    def slot_width(self):
        """Bits of a slot: the size of a header, so that one of each format takes the least."""
        sizes = [
            sum(width for _, width in self._header_fields(number))
            for number in range(len(self.members))
        ]
        best = None
        for slot in sorted(set(sizes), reverse=True):
            bits = sum(-(-size // slot) * slot for size in sizes)
            if best is None or bits < best[0]:
                best = bits, slot
        assert best is not None
        self.slots = [-(-size // best[1]) for size in sizes]
        return best[1]

    def _batch_shape(self):
        """Fewest words a slot, then fewest words, of those within 128 bits."""
        best = None
        for words in range(1, 200):
            slots = words * self.width // self.slot_width
            if slots < max(self.slots) or (best is not None and words * self.width > 128):
                continue
            if best is None or words * best[1] < best[0] * slots:
                best = words, slots
        assert best is not None
        return best

    def _batch(self, bits, slots, left):
        """Cut a batch into the headers that it has; ``left`` are still to come."""
        format_bits = self._header_fields(0)[0][1]
        slot = 0
        while left and slot < slots:
            number = bits & (1 << format_bits) - 1
            if slot + self.slots[number] > slots:  # only the format is there
                bits >>= format_bits
                break
            taken = {}
            header = bits
            for name, width in self._header_fields(number):
                taken[name] = header & ((1 << width) - 1)
                if name.startswith("scale") and taken[name] >> (width - 1):
                    taken[name] -= 1 << width
                header >>= width
            size = sum(width for _, width in self._header_fields(number))
            room = self.slots[number] * self.slot_width
            assert bits >> size & (1 << room - size) - 1 == 0
            yield taken
            slot, bits, left = slot + self.slots[number], bits >> room, left - 1
        assert bits == 0

    def _lane(self, lane):
        """Take one word after the other, for ever."""
        width = self.slot_width
        batch_words, slots = self._batch_shape()
        assert batch_words * self.width >= slots * width
        places = []
        for tile in range(self.tiles):
            first = tile * self.tile_slices
            last = min(first + self.tile_slices, self.slices)
            for block in range(self.blocks):
                for start in range(first, last, self.segment_slices):
                    row = self.row_of[block, lane]
                    places.append((tile, row, start, min(self.segment_slices, last - start)))
        headers = []
        for number, (tile, row, start, length) in enumerate(places):
            # The next batch is due before the codes of the last record that this one serves.
            while len(headers) <= min(number + 1, len(places) - 1):
                bits = 0
                for part in range(batch_words):
                    bits |= (yield) << part * self.width
                    self.used[lane][tile] += 1
                headers += self._batch(bits, slots, len(places) - len(headers))
            taken = headers[number]
            key = row, start * self.width // self.group_size
            assert self.groups.setdefault(key, taken) == taken
            self.records[lane].append((taken["format"], length))
            code_width = self.members[taken["format"]].code_width
            for index in range(start, start + length):
                words = []
                for _ in range(code_width):
                    words.append((yield))
                    self.used[lane][tile] += 1
                for offset in range(self.width):
                    code = sum((word >> offset & 1) << bit for bit, word in enumerate(words))
                    self.codes[row, index * self.width + offset] = code
            following = places[number + 1][0] if number + 1 < len(places) else self.tiles
            self.finished[lane] = following
        assert len(headers) == len(places)
        yield
        raise AssertionError("a word behind the last")

    # -- spans ----------------------------------------------------------------------------------

    def allows(self, span_tiles):
        """Whether no lane could wait for words that cannot come; by the rule, pair by pair."""
        for first in range(0, self.tiles, span_tiles):
            end = min(first + span_tiles, self.tiles)
            for tile in range(first, end - 2):
                for slow, quick in itertools.permutations(self.used, 2):
                    if sum(slow[first : tile + 1]) > sum(quick[first : tile + 2]) + self.ahead:
                        return False
        return True


def _check(matrix, layout, cycles=None):
    packed = pack(matrix, layout, cycles)
    assert packed.beats.dtype == np.uint8
    assert packed.beats.shape[1] * 8 == layout.beat_width
    assert (packed.rows, packed.columns) == (matrix.rows, matrix.columns)
    assert packed.bits == packed.beats.size * 8
    reader = Reader(layout, packed.beats).read(matrix.group_size)

    assert (reader.rows, reader.columns) == (matrix.rows, matrix.columns)
    assert packed.span_tiles == reader.span_tiles
    assert reader.allows(packed.span_tiles)
    longer = range(packed.span_tiles + 1, reader.tiles + 1)
    assert not any(reader.allows(tiles) for tiles in longer), "spans could be longer"
    for lane, records in enumerate(reader.records):
        listed = zip(packed.formats[lane].tolist(), packed.slices.tolist(), strict=True)
        assert records == list(listed)
    scales = matrix.row_scales.view(np.uint32)
    for row, bits in reader.row_scales.items():
        assert bits == (int(scales[row]) if row < matrix.rows else 0)
    numbers = [item.stream_codes for item in matrix.members]
    for (row, column), code in reader.codes.items():
        expected = 0
        if row < matrix.rows and column < matrix.columns:
            own = matrix.format_ids[row, column // matrix.group_size]
            expected = numbers[own][matrix.codes[row, column]]
        assert code == expected, (row, column)
    assert {(n, k) for n in range(matrix.rows) for k in range(matrix.columns)} <= set(reader.codes)
    for row in range(matrix.rows):
        for group in range(matrix.groups):
            taken = reader.groups[row, group]
            item = matrix.members[matrix.format_ids[row, group]]
            assert layout.members[taken["format"]] == item
            assert taken.get("zero", 0) == matrix.zeros[row, group]
            for index in range(item.scale_count):
                assert taken[f"scale_{index}"] == matrix.scales[row, group, index]
    for (row, group), taken in reader.groups.items():
        if row >= matrix.rows:  # padding: the last row's format
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


def _random_layer(seed):
    """Draw a layout and a layer for it: any families, one or several, at any size."""
    rng = random.Random(seed)
    names = rng.sample(sorted(CATALOG), rng.choice([1, 2, 3, 4]))
    width, lanes = rng.choice([8, 16, 24, 32]), rng.choice([4, 5, 6, 8])
    tile_slices = rng.randrange(1, 5)
    sizes = [n * width for n in (1, 2, 3, 4, 8) if tile_slices % n == 0 or n % tile_slices == 0]
    layout = _layout(
        tuple(names),
        lanes=lanes,
        width=width,
        tile_slices=tile_slices,
        output_lanes=rng.choice([n for n in range(1, lanes + 1) if lanes % n == 0]),
        ahead=rng.choice([2, 3, 8, 16, 64]),
        scale_width=rng.choice([1, 8, 16]),
        group_sizes=tuple(sizes),
    )
    rows, columns = rng.randint(1, 40), rng.randint(1, 40 * width // 8)
    matrix = random_matrix(
        layout.members,
        rows,
        columns,
        rng.choice([*sizes, columns]),
        seed=seed,
        scale_width=layout.scale_width,
    )
    return matrix, layout


@pytest.mark.parametrize("seed", range(30))
def test_random_layers(seed):
    _check(*_random_layer(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_more_random_layers(seed):
    _check(*_random_layer(seed))


# -- dealing -------------------------------------------------------------------------------------


def _with_formats(matrix, ids):
    """Give every row one format; codes, scales and zero-points as narrow as any has."""
    shape = matrix.format_ids.shape
    return dataclasses.replace(
        matrix,
        codes=matrix.codes & 3,
        format_ids=np.repeat(ids[:, None], shape[1], axis=1).astype(np.uint8),
        zeros=np.zeros(shape, dtype=np.uint8),
    )


@pytest.mark.parametrize("output_lanes", [1, 2, 4])
def test_deal_balances(output_lanes):
    """Rows of two kinds in turn: as they stand, half of the lanes would have four times as much."""
    layout = _layout(("int2", "int8"), output_lanes=output_lanes)
    kinds = random_matrix(layout.members, 64, 128, 128, seed=0)
    packed, reader = _check(_with_formats(kinds, np.arange(64) % 2), layout)
    loads = np.array([2, 8])[packed.formats] @ packed.slices
    assert loads.max() == loads.min() == 8 * (2 + 8) * 16 // 2
    assert packed.useful_cycles == loads[0]
    assert packed.places.tolist() == [
        [reader.row_of[block, lane] - block * 4 for lane in range(4)] for block in range(16)
    ]


@pytest.mark.parametrize("cycles", [(2, 8), (1, 1), (16, 8), (16, 1), (1, 30)])
def test_deal_goes_by_words_and_by_cycles(cycles):
    """An engine that takes long for a narrow format is dealt its rows by that too."""
    layout = _layout(("int2", "int8"))
    mixed = _with_formats(random_matrix(layout.members, 16, 128, 128, seed=0), np.arange(16) % 2)
    packed, _ = _check(mixed, layout, cycles)
    useful = []
    for each in (np.array([2, 8]), np.array(cycles)):
        loads = each[packed.formats] @ packed.slices
        assert loads.max() == loads.min()
        useful.append(loads[0])
    assert packed.useful_cycles == max(useful)


@pytest.mark.parametrize("formats", [("int4",), ("bcq2_asym",), ("int2", "bitmod4")])
@pytest.mark.parametrize("factor", [0, 1, 3])
def test_useful_cycles(formats, factor):
    """All real rows want their formats' cycles, and the words of their codes to be read."""
    layout = _layout(formats)
    matrix = random_matrix(layout.members, 7, 90, 32, seed=5)
    cycles = [factor * len(item.planes) for item in layout.members]
    packed = pack(matrix, layout, cycles)
    words = steps = 0
    for row in range(7):
        for start in range(0, 90, 16):
            item = matrix.members[matrix.format_ids[row, start // 32]]
            words += item.code_width
            steps += factor * len(item.planes)
    assert packed.useful_cycles == max(words, steps) / 4
    assert pack(matrix, layout).useful_cycles == words / 4


# -- words and spans -----------------------------------------------------------------------------


def test_codes_are_stored_at_their_true_width():
    """A record takes as many words a slice as its own codes have bits, no more."""
    layout = _layout(("int2", "int8"), lanes=2)
    lengths = []
    for formats in ("int2", "int8"):
        matrix = random_matrix(formats, 2, 64, 16, seed=1)
        lengths.append(len(_check(matrix, layout)[0].beats))
    assert lengths[1] - lengths[0] == 4 * (8 - 2)


def test_a_wide_row_does_not_widen_the_others():
    """Words of every lane are its own; only the end of a span is shared."""
    layout = _layout(("int2", "int8"))
    ids = np.array([0, 0, 1, 0])
    matrix = _with_formats(random_matrix(layout.members, 4, 64, 64, seed=0), ids)
    _, reader = _check(matrix, layout)
    words = {reader.row_of[0, lane]: sum(reader.used[lane]) for lane in range(4)}
    batches = words[0] - 4 * 2
    assert words == {0: batches + 8, 1: batches + 8, 2: batches + 32, 3: batches + 8}
    assert sorted(padding[0] for padding in reader.padding) == [0, 24, 24, 24]


def test_batches_do_not_end_with_a_tile():
    """Headers are cut into batches over the whole layer, not tile by tile."""
    layout = _layout(("int4",), tile_slices=1, group_sizes=(16,))
    words, headers = layout.batch_shape
    assert headers == 8
    _, reader = _check(random_matrix("int4", 4, 16 * 17, 16, seed=1), layout)
    for lane in range(4):
        assert sum(reader.used[lane]) == 17 * 4 + 3 * words


def _uneven(rows, tiles, layout, order):
    """Return a layer in which a function of row and tile says which format it has."""
    columns = tiles * layout.tile_columns
    matrix = random_matrix(layout.members, rows, columns, layout.tile_columns, seed=0)
    ids = np.array([[order(row, tile) for tile in range(tiles)] for row in range(rows)])
    return dataclasses.replace(
        matrix,
        codes=matrix.codes & 3,
        format_ids=ids.astype(np.uint8),
        zeros=np.zeros_like(matrix.zeros),
    )


def test_lanes_that_keep_pace_are_one_span():
    """They may differ within a tile, and by `ahead` words beyond the next one."""
    layout = _layout(("int2", "int8"))
    matrix = _uneven(8, 8, layout, lambda row, tile: (row + tile) % 2)
    packed, reader = _check(matrix, layout)
    assert packed.span_tiles == reader.tiles == 8
    packed, _ = _check(random_matrix("int4", 9, 512, 32, seed=1), _layout(("int4",)))
    assert packed.span_tiles == 8


@pytest.mark.parametrize("ahead", [2, 16, 60, 200, 1000])
def test_lanes_that_drift_apart_are_filled_up(ahead):
    """One lane has wide tiles first and narrow ones later: it may not be waited for in vain."""
    layout = _layout(("int2", "int8"), ahead=ahead)
    matrix = _uneven(4, 8, layout, lambda row, tile: (row == 0) == (tile < 4))
    packed, reader = _check(matrix, layout)
    assert all(sum(used) == sum(reader.used[0]) for used in reader.used)
    spans = {2: 2, 16: 3, 60: 4, 200: 8, 1000: 8}
    assert packed.span_tiles == spans[ahead]
    padding = sum(map(sum, reader.padding))
    assert (padding == 0) == (packed.span_tiles == 8)


@pytest.mark.parametrize("seed", range(12))
def test_a_last_span_that_is_short(seed):
    """Nothing is asked of the last two tiles of it either, however few it has."""
    layout = _layout(("int2", "int8"), lanes=2, tile_slices=1, group_sizes=(16,), ahead=2)
    matrix = random_matrix(layout.members, 2, 16 * 8, 16, seed=seed)
    _check(matrix, layout)


def test_two_tiles_are_always_a_span():
    layout = _layout(("int2", "int8"), lanes=4, ahead=2)
    matrix = _uneven(32, 7, layout, lambda row, tile: row % 4 == tile % 2)
    packed, reader = _check(matrix, layout)
    assert packed.span_tiles >= 2
    assert reader.allows(1)
    assert reader.allows(2)


@pytest.mark.parametrize(
    ("slices", "beats", "frames"),
    [(447, 4088, 1), (448, 4096, 1), (449, 4112, 2), (896, 8192, 2), (897, 8208, 3)],
)
def test_frames(slices, beats, frames):
    """A checksum after 4096 beats and at the end, but not twice."""
    layout = _layout(("int8_asym",), lanes=2, tile_slices=256, max_columns=1 << 16)
    assert layout.batch_shape == (8, 7)
    _, reader = _check(random_matrix("int8_asym", 2, slices * 16, 16, seed=1), layout)
    assert [sum(used) for used in reader.used] == [beats, beats]
    rows = layout.layer_header_beats + layout.row_scale_beats + 1 + 1
    assert len(reader.beats) == rows + layout.span_header_beats + beats + frames


def test_every_bit_of_a_code_counts():
    """Changing one code changes one bit of one beat and the checksum."""
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
    assert "zero" not in layout.record_header(layout.members[0])
    assert isinstance(layout.members[0], BinaryCodingFormat)
    matrix = random_matrix("bcq2_asym", 4, 32, 16, seed=1)
    assert isinstance(matrix, QuantizedMatrix)
    _check(matrix, layout)
