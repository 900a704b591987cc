"""The documentation against the code: examples, tables, links, and a packer written from a page."""

import dataclasses
import doctest
import importlib.util
import itertools
import random
import re
import zlib
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from amaranth import Shape

from lutra.formats import Numerics, QuantizedMatrix, StreamLayout, pack
from lutra.formats.beat_fold import BeatFold
from lutra.formats.layout import LAYER_HEADER, LAYER_MAGIC, SPAN_HEADER, SPAN_MAGIC, STREAM_VERSION
from lutra.gen import EngineConfig
from lutra.gen.backend_amaranth import AmaranthBackend
from lutra.gen.backend_numpy import NumpyBackend
from lutra.hdl import EngineParameters, Error, Status
from lutra.hdl.activation_store import activation_layout
from lutra.hdl.convert_output import output_layout
from lutra.hdl.unpack import weight_layout
from lutra.sim import random_matrix
from lutra.sim.interface import EngineInterface

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
FORMATS_PAGE = ROOT / "docs" / "formats.md"
STREAM_PAGE = ROOT / "docs" / "weight-stream.md"
ALL_PAGES = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def name_of(path):
    return path.name


# -- examples, generated pages, links ------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples(page):
    if page.name == "gpu.md" and importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch: pip install 'lutra[gpu]'")
    # Blank lines for the fences, which would otherwise be taken for expected output.
    lines = page.read_text(encoding="utf-8").splitlines()
    text = "\n".join("" if line.startswith("```") else line for line in lines)
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = []
    doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert not report, "".join(report)
    assert len(examples.examples) == len(re.findall(r"^>>> ", text, re.MULTILINE))


def test_some_pages_have_examples():
    with_examples = {page.name for page in PAGES if ">>> " in page.read_text(encoding="utf-8")}
    assert with_examples >= {"arithmetic.md", "gpu.md", "model-file.md", "weight-stream.md"}


def generator_of(name):
    """Import the script that makes a page."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    return generator


def test_formats_page_is_generated():
    generator = generator_of("formats")
    text = generator.PAGE.read_text(encoding="utf-8")
    assert text == generator.page(), "run .venv/bin/python docs/formats.py"


def test_accuracy_page_is_generated():
    generator = generator_of("accuracy")
    rows = generator.read()
    made = generator.plots(rows) | {generator.PAGE.name: generator.page(rows)}
    for name, expected in made.items():
        text = generator.PAGE.with_name(name).read_text(encoding="utf-8")
        assert text == expected, "run .venv/bin/python docs/accuracy.py"


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        goal = page.parent / path if path else page
        assert goal.exists(), target
        assert not anchor or anchor in anchors(goal), target


def anchors(page):
    """Names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_files_that_pages_name_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:[a-z]+/)+[\w.]+\.(?:py|md|toml))`", text):
        assert (ROOT / name).exists(), name


# -- tables of the weight stream's page ----------------------------------------------------------


def table(name):
    """Cells of the rows of a marked table, without its heading."""
    text = STREAM_PAGE.read_text(encoding="utf-8")
    (_, rest) = text.split(f"<!-- table: {name} -->\n")
    rows = itertools.takewhile(lambda line: line.startswith("|"), rest.splitlines())
    return [[cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in rows][2:]


@pytest.mark.parametrize(
    ("name", "fields", "magic"),
    [("LAYER_HEADER", LAYER_HEADER, LAYER_MAGIC), ("SPAN_HEADER", SPAN_HEADER, SPAN_MAGIC)],
)
def test_header_tables(name, fields, magic):
    position, expected = 0, []
    for field, width in fields.items():
        expected.append([f"{position + width - 1}:{position}", field])
        position += width
    rows = table(name)
    assert [row[:2] for row in rows] == expected
    meaning = {field: value for _, field, value in rows}
    letters = magic.to_bytes(2, "little").decode()
    assert meaning["magic"] == f"0x{magic:X}; as bytes, the letters `{letters}"
    assert int(meaning.get("version", STREAM_VERSION)) == STREAM_VERSION
    assert f"**version {STREAM_VERSION}**" in STREAM_PAGE.read_text(encoding="utf-8")


def test_folding_table():
    limits = [BeatFold(int(bits)) for bits, _, _ in table("folding")]
    found = [[str(f.beat_width), str(f.word_width), str(f.diagonals)] for f in limits]
    assert found == table("folding")
    assert [BeatFold(f.beat_width + 8).word_width for f in limits[:-1]] == [
        f.word_width for f in limits[1:]
    ]
    assert BeatFold(136).word_width == limits[0].word_width


def test_error_table():
    listed = [(int(code), name) for code, name, _ in table("errors") if code]
    assert listed == [(item.value, item.name) for item in Error]


def test_status_bits():
    status = Status()
    bits = {name: (field.offset, Shape.cast(field.shape).width) for name, field in status}
    assert bits == {"error": (0, 3), "nonfinite": (3, 1), "busy": (4, 1)}


@pytest.mark.parametrize("output", ["int", "float32", "bfloat16"])
@pytest.mark.parametrize("activation", ["int8", "float16", "bfloat16", "float32"])
def test_port_table(activation, output):
    layout = StreamLayout(lanes=6, width=24, tile_slices=2, formats=("int4",), output_lanes=3)
    act_width = 8 if activation == "int8" else 12
    parameters = EngineParameters(
        layout=layout,
        numerics=Numerics(activation=activation, act_width=act_width, output=output),
        act_lanes=4,
    )
    facts = {
        "lanes": 6,
        "width": 24,
        "act_lanes": 4,
        "output_lanes": 3,
        "element_width": {"int8": 8, "float16": 16, "bfloat16": 16, "float32": 32}[activation],
        "value_width": {"int": parameters.sum_width, "float32": 32, "bfloat16": 16}[output],
        "exponent_width": 0,
    }
    if output == "int":
        exponent_widths = {"int8": 2, "float16": 8, "bfloat16": 11, "float32": 11}
        facts["exponent_width"] = exponent_widths[activation]
    widths = {row[0]: eval(row[2], {}, facts) for row in table("ports")}
    interface = EngineConfig(name="engine", parameters=parameters).interface
    assert isinstance(interface, EngineInterface)
    expected = dict.fromkeys(("clk", "rst", "clear"), 1) | {"status": Status().size}
    for stream, payload in (
        ("i_x", activation_layout(parameters)),
        ("i_w", weight_layout(parameters)),
        ("o", output_layout(parameters)),
    ):
        expected |= {f"{stream}__payload": payload.size}
        expected |= {f"{stream}__valid": 1, f"{stream}__ready": 1}
    assert widths == expected
    assert widths["o__payload"] == interface.o_width + 1


# -- the weight stream's page as a program -------------------------------------------------------

Fill = Callable[[int], int]  # padding of so many bits


@cache
def stream_numbers(item) -> list[int]:
    """Return the stream's number for each code, as the page of formats lists them."""
    text = FORMATS_PAGE.read_text(encoding="utf-8")
    (_, rest) = text.split("## Codes in the weight stream\n")
    (rest, *_) = rest.split("\n## ")
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\d, ]+) \|$", rest, re.MULTILINE))
    if item.name not in listed:
        return list(range(1 << item.code_width))
    return [int(number) for number in listed[item.name].split(", ")]


class PagePacker:
    """A packer that takes nothing but the facts that packer and engine agree on from Lutra."""

    def __init__(self, matrix: QuantizedMatrix, layout: StreamLayout, fill: Fill) -> None:
        self.matrix, self.fill = matrix, fill
        self.lanes, self.width = layout.lanes, layout.width
        self.tile_slices, self.scale_width = layout.tile_slices, layout.scale_width
        self.output_lanes, self.ahead = layout.output_lanes, layout.ahead
        self.members = layout.members
        self.rows, self.columns = matrix.codes.shape
        self.blocks = -(-self.rows // self.lanes)
        self.slices = -(-self.columns // self.width)
        self.tiles = -(-self.slices // self.tile_slices)
        self.segment_slices = self.tile_slices
        if matrix.group_size < self.columns:
            self.segment_slices = min(matrix.group_size // self.width, self.tile_slices)
        self.format_bits = max(1, (len(self.members) - 1).bit_length())
        sizes = [self._header_bits(item) for item in self.members]
        self.slot_bits = min(
            sorted(sizes, reverse=True), key=lambda u: u * sum(-(-size // u) for size in sizes)
        )
        self.dealt = pack(matrix, layout).places.tolist()

    def _header_bits(self, item) -> int:
        scales = item.scale_count * (self.scale_width + 1)
        return self.format_bits + scales + (item.code_width if item.has_zero_point else 0)

    def _slots(self, item) -> int:
        return -(-self._header_bits(item) // self.slot_bits)

    def stream(self) -> list[int]:
        """Return all beats of the layer."""
        self.places = self.deal()
        streams = [self._lane_stream(lane) for lane in range(self.lanes)]
        span_tiles = self.choose_span(streams)
        beats = self._header(
            (0x754C, 16),
            (4, 8),
            (0, 8),
            (self._fingerprint(), 32),
            (self.rows, 32),
            (self.columns, 32),
            (self.blocks, 32),
            (self.segment_slices, 16),
            (self.tiles, 16),
            (span_tiles, 16),
        )
        beats = self._section(beats + self._row_section())
        for index, first in enumerate(range(0, self.tiles, span_tiles)):
            tiles = range(first, min(first + span_tiles, self.tiles))
            lane_words = [[w for tile in tiles for w in stream[tile]] for stream in streams]
            beats += self._span(index, lane_words)
        return beats

    # What the page leaves to a packer, as it says that Lutra's has it.

    def deal(self) -> list[list[int]]:
        """Return the row of its block that each lane has, for each block: Lutra's own choice."""
        for lanes in self.dealt:
            parts = {
                (r // self.output_lanes, lane % self.output_lanes) for lane, r in enumerate(lanes)
            }
            assert len(parts) == self.lanes == len(set(lanes))
        return self.dealt

    def choose_span(self, streams: list[list[list[int]]]) -> int:
        """Return the most tiles of a span that keep to the rule."""
        return max(n for n in range(1, self.tiles + 1) if self.span_is_valid(streams, n))

    def padding_format(self, slice_index: int):
        """Return a format for padding rows."""
        return self._format_of(self.rows - 1, slice_index * self.width)

    # What it does not.

    def span_is_valid(self, streams: list[list[list[int]]], span_tiles: int) -> bool:
        """Hold the number of tiles of a span against the rule."""
        for first in range(0, self.tiles, span_tiles):
            last = min(first + span_tiles, self.tiles) - 1
            for t in range(first, last - 1):
                needed = max(sum(map(len, s[first : t + 1])) for s in streams)
                reached = min(sum(map(len, s[first : t + 2])) for s in streams)
                if needed > reached + self.ahead:
                    return False
        return True

    def _header(self, *fields: tuple[int, int]) -> list[int]:
        word = position = 0
        for value, bits in fields:
            word |= value << position
            position += bits
        beat_bits = self.lanes * self.width
        count = -(-position // beat_bits)
        word |= self.fill(count * beat_bits - position) << position
        return [word >> i * beat_bits & (1 << beat_bits) - 1 for i in range(count)]

    def _cut(self, bits: int, count: int) -> list[int]:
        return [bits >> i * self.width & (1 << self.width) - 1 for i in range(count)]

    def _join(self, words: Iterable[int]) -> int:
        return sum(word << lane * self.width for lane, word in enumerate(words))

    def _side_by_side(self, lane_words: list[list[int]]) -> list[int]:
        return [self._join(words) for words in zip(*lane_words, strict=True)]

    def _section(self, beats: list[int]) -> list[int]:
        size = self.lanes * self.width // 8
        checksum = zlib.crc32(b"".join(map(self._fold, beats)))
        return [*beats, checksum | self.fill(8 * size - 32) << 32]

    def _fold(self, beat: int) -> bytes:
        bits = self.lanes * self.width
        if bits <= 128:
            return beat.to_bytes(bits // 8, "little")
        f = min(n for n in (32, 64, 128, 256, 512) if n * n >= bits)
        p = {32: 37, 64: 67, 128: 131, 256: 269, 512: 523}[f]
        words = [beat >> start & (1 << f) - 1 for start in range(0, bits, f)]
        diagonals = parities = 0
        for index, word in enumerate(words):
            for bit in range(f):
                diagonals ^= (word >> bit & 1) << (bit + index) % p
            parities |= word.bit_count() % 2 << index
        return (diagonals | parities << p).to_bytes(-(-(p + len(words)) // 8), "little")

    def _fingerprint(self) -> int:
        shape = f"{self.lanes} {self.width} {self.tile_slices} {self.output_lanes} {self.ahead}"
        lines = [f"{shape} {self.scale_width}"]
        for item in self.members:
            lines.append(f"{item.code_width} {int(item.has_zero_point)}")
            for plane in item.planes:
                truth = sum(
                    (plane.truth >> code & 1) << number
                    for code, number in enumerate(stream_numbers(item))
                )
                lines[-1] += f" {plane.coefficient},{truth:x},{int(plane.bipolar)}"
                lines[-1] += f",{plane.scale_index}"
        return zlib.crc32(("\n".join(lines) + "\n").encode("ascii"))

    def _row_section(self) -> list[int]:
        place_bits = sum(self._place_bits())
        served = self.width // place_bits if place_bits else self.blocks
        beats = []
        for first in range(0, self.blocks, served):
            blocks = range(first, min(first + served, self.blocks))
            if place_bits:
                beats.append(self._join(self._places(lane, blocks) for lane in range(self.lanes)))
            for block in blocks:
                scales = [self._row_scale(self._row(block, lane)) for lane in range(self.lanes)]
                beats += self._side_by_side(scales)
        return beats

    def _place_bits(self) -> tuple[int, int]:
        parts = self.lanes // self.output_lanes
        return (self.output_lanes - 1).bit_length(), (parts - 1).bit_length()

    def _places(self, lane: int, blocks: range) -> int:
        output_bits, bits = self._place_bits()[0], sum(self._place_bits())
        word = self.fill(self.width - bits * len(blocks)) << bits * len(blocks)
        for index, block in enumerate(blocks):
            part, output = divmod(self.places[block][lane], self.output_lanes)
            word |= (output | part << output_bits) << bits * index
        return word

    def _row(self, block: int, lane: int) -> int:
        return block * self.lanes + self.places[block][lane]

    def _row_scale(self, n: int) -> list[int]:
        count = -(-32 // self.width)
        if n >= self.rows:
            return self._cut(self.fill(count * self.width), count)
        scale = int(self.matrix.row_scales[n : n + 1].view("u4")[0])
        return self._cut(scale | self.fill(count * self.width - 32) << 32, count)

    def _span(self, index: int, lane_words: list[list[int]]) -> list[int]:
        longest = max(map(len, lane_words))
        for words in lane_words:
            words += [self.fill(self.width) for _ in range(longest - len(words))]
        payload = self._side_by_side(lane_words)
        before = self._header((0x7053, 16), (index, 16), (len(payload), 32))
        beats = []
        for first in range(0, len(payload), 4096):
            beats += self._section(before + payload[first : first + 4096])
            before = []
        return beats

    def _lane_stream(self, lane: int) -> list[list[int]]:
        """Return a lane's words of each tile."""
        longest = max(map(self._slots, self.members)) * self.slot_bits
        least = -(-longest // self.width)
        choices = range(least, max(least, 128 // self.width) + 1)
        room = {n: n * self.width // self.slot_bits for n in choices}
        count = min(choices, key=lambda n: (Fraction(n, room[n]), n))
        records = []
        for tile in range(self.tiles):
            first, last = tile * self.tile_slices, (tile + 1) * self.tile_slices
            last = min(last, self.slices)
            starts = range(first, last, self.segment_slices)
            records += [
                (tile, self._row(block, lane), start, min(start + self.segment_slices, last))
                for block, start in itertools.product(range(self.blocks), starts)
            ]
        batches: list[list[tuple[int, int, int, int]]] = [[]]
        for record in records:
            if sum(map(self._slots_of, [*batches[-1], record])) > room[count]:
                batches.append([])
            batches[-1].append(record)
        words = [
            self._batch(batch, following[0] if following else None, room[count], count)
            for batch, following in itertools.zip_longest(batches, batches[1:])
        ]
        firsts = [batch[0] for batch in batches]
        tiles: list[list[int]] = [[] for _ in range(self.tiles)]
        tiles[0] += words[0]
        for record, following in itertools.zip_longest(records, records[1:]):
            tile, *place = record
            if following in firsts:
                tiles[tile] += words[firsts.index(following)]
            tiles[tile] += self._codes(*place)
        return tiles

    def _slots_of(self, record: tuple[int, int, int, int]) -> int:
        _, n, start, _ = record
        return self._slots(self._format_of(n, start * self.width))

    def _batch(self, records: list, following: tuple | None, room: int, count: int) -> list[int]:
        bits = slot = 0
        for record in records:
            _, n, start, _ = record
            size = self._header_bits(self._format_of(n, start * self.width))
            rest = self._slots_of(record) * self.slot_bits - size
            header = self._record_header(n, start) | self.fill(rest) << size
            bits |= header << slot * self.slot_bits
            slot += self._slots_of(record)
        position = slot * self.slot_bits
        if following and slot < room:
            _, n, start, _ = following
            bits |= self.members.index(self._format_of(n, start * self.width)) << position
            position += self.format_bits
        return self._cut(bits | self.fill(count * self.width - position) << position, count)

    def _format_of(self, n: int, k: int):
        if n >= self.rows:
            return self.padding_format(k // self.width)
        return self.matrix.members[self.matrix.format_ids[n, k // self.matrix.group_size]]

    def _record_header(self, n: int, start: int) -> int:
        padding = n >= self.rows
        group = start * self.width // self.matrix.group_size
        item = self._format_of(n, start * self.width)
        word, position = self.members.index(item), self.format_bits
        for index in range(item.scale_count):
            bits = self.scale_width + 1
            scale = self.fill(bits - 1)  # any but the one that is refused
            if not padding:
                scale = int(self.matrix.scales[n, group, index]) % (1 << bits)
            word |= scale << position
            position += bits
        if item.has_zero_point:
            zero = self.fill(item.code_width) if padding else int(self.matrix.zeros[n, group])
            word |= zero << position
        return word

    def _codes(self, n: int, start: int, end: int) -> list[int]:
        width = self._format_of(n, start * self.width).code_width
        words = []
        for slice_index, bit in itertools.product(range(start, end), range(width)):
            columns = range(slice_index * self.width, (slice_index + 1) * self.width)
            words.append(sum(self._code_bit(n, k, bit) << i for i, k in enumerate(columns)))
        return words

    def _code_bit(self, n: int, k: int, bit: int) -> int:
        if n >= self.rows or k >= self.columns:
            return self.fill(1)
        number = stream_numbers(self._format_of(n, k))[self.matrix.codes[n, k]]
        return number >> bit & 1


class OtherPacker(PagePacker):
    """Makes other choices, at random, that the page allows; pads more than is needed."""

    def __init__(self, matrix: QuantizedMatrix, layout: StreamLayout, seed: int) -> None:
        self.rng = random.Random(seed)
        self.padding = [self.rng.choice(layout.members) for _ in range(matrix.columns)]
        super().__init__(matrix, layout, self.rng.getrandbits)

    def deal(self) -> list[list[int]]:
        """Give the rows of each part to lanes of different sets, otherwise any."""
        dealt = []
        for _ in range(self.blocks):
            sets = [list(range(s, self.lanes, self.output_lanes)) for s in range(self.output_lanes)]
            lanes = [0] * self.lanes
            for part in range(0, self.lanes, self.output_lanes):
                for output, own in enumerate(self.rng.sample(sets, self.output_lanes)):
                    lanes[own.pop(self.rng.randrange(len(own)))] = part + output
            dealt.append(lanes)
        return dealt

    def choose_span(self, streams: list[list[list[int]]]) -> int:
        """Take any valid one; more than there are tiles is the same as all of them."""
        valid = [n for n in range(1, self.tiles + 4) if self.span_is_valid(streams, n)]
        return self.rng.choice(valid)

    def padding_format(self, slice_index: int):
        """Return any format, the same for all of a segment."""
        return self.padding[slice_index // self.segment_slices]

    def _span(self, index: int, lane_words: list[list[int]]) -> list[int]:
        for words in lane_words:
            words += [self.fill(self.width) for _ in range(self.rng.randrange(40))]
        return super()._span(index, lane_words)


def no_padding(bits: int) -> int:
    return 0


def integers(beats):
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats]


LAYERS = {
    # Headers that fill a word, so that every batch has one; two tiles of unequal length.
    "one header a batch": (
        {"lanes": 2, "width": 16, "tile_slices": 2, "formats": ("int4",), "scale_width": 14},
        (3, 70, 16),
    ),
    "zero-points, scales, widths": (
        {
            "lanes": 3,
            "width": 16,
            "tile_slices": 4,
            "formats": ("bitmod4", "int6_asym", "bcq2_asym"),
        },
        (8, 150, 32),
    ),
    "row scales of two beats with a rest": (
        {"lanes": 2, "width": 24, "tile_slices": 2, "formats": ("ternary", "bitmod3")},
        (5, 130, 24),
    ),
    "headers of one slot and of several": (
        {
            "lanes": 4,
            "width": 8,
            "tile_slices": 4,
            "formats": ("bcq4_asym", "int8", "int2", "bcq2"),
        },
        (13, 90, 8),
    ),
    "headers of several beats": (
        {"lanes": 5, "width": 8, "tile_slices": 3, "formats": ("bcq4_asym", "int8")},
        (11, 50, 24),
    ),
    "groups of several tiles, one row": (
        {"lanes": 4, "width": 16, "tile_slices": 1, "formats": ("int3",)},
        (1, 100, 32),
    ),
    "whole rows, wide beats": (
        {"lanes": 1, "width": 256, "tile_slices": 2, "formats": ("int2", "float4_e2m1")},
        (7, 700, 700),
    ),
    "places of several beats": (
        {"lanes": 6, "width": 8, "tile_slices": 1, "formats": ("int2", "int5"), "output_lanes": 2},
        (37, 21, 8),
    ),
    "blocks of one part": (
        {"lanes": 4, "width": 8, "tile_slices": 2, "formats": ("int2", "int8"), "output_lanes": 4},
        (10, 90, 16),
    ),
    "no places": (
        {"lanes": 1, "width": 32, "tile_slices": 2, "formats": ("int2", "int8")},
        (3, 90, 64),
    ),
    "short spans": (
        {"lanes": 4, "width": 8, "tile_slices": 2, "formats": ("ternary", "int8"), "ahead": 2},
        (6, 150, 8),
    ),
    "several frames": (
        {"lanes": 4, "width": 8, "tile_slices": 16, "formats": ("int3", "int8"), "ahead": 64},
        (96, 560, 16),
    ),
}


def layer(name):
    fields, (rows, columns, group_size) = LAYERS[name]
    group_sizes = () if group_size == columns else (group_size,)
    layout = StreamLayout(**fields, group_sizes=group_sizes, max_rows=rows, max_columns=columns)
    width = layout.scale_width
    matrix = random_matrix(
        layout.members, rows, columns, group_size, seed=len(name), scale_width=width
    )
    return matrix, layout


@pytest.mark.parametrize("name", LAYERS)
def test_packer_written_from_the_page(name):
    matrix, layout = layer(name)
    packer = PagePacker(matrix, layout, no_padding)
    packed = pack(matrix, layout)
    assert packer.stream() == integers(packed.beats)
    assert packed.span_tiles <= packer.tiles
    if name == "short spans":
        assert 1 < packed.span_tiles < packer.tiles
    if name == "several frames":
        assert packed.span_tiles == packer.tiles
        assert len(packed.beats) > 2 * 4096


def outputs_of(packer, layout, **options):
    """Run a stream in the engine and return its outputs with those that are right."""
    numerics = Numerics(activation="int8", act_width=8)
    parameters = EngineParameters(layout=layout, numerics=numerics, act_lanes=8, **options)
    config = EngineConfig(name="engine", parameters=parameters)
    packed = pack(packer.matrix, layout)
    beats = packer.stream()
    assert beats != integers(packed.beats)
    size = layout.beat_width // 8
    raw = np.frombuffer(b"".join(beat.to_bytes(size, "little") for beat in beats), dtype=np.uint8)
    packed = dataclasses.replace(packed, beats=raw.reshape(-1, size))
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (parameters.tokens, packer.columns), dtype=np.int8)
    outputs = AmaranthBackend(config, lambda *_: None).run(packer.matrix, x, packed=packed).outputs
    golden = NumpyBackend(config, lambda *_: None).run(packer.matrix, x).outputs
    return outputs.tobytes(), golden.tobytes()


@pytest.mark.parametrize(
    "name",
    [
        "zero-points, scales, widths",
        "headers of one slot and of several",
        "headers of several beats",
    ],
)
def test_engine_ignores_padding(name):
    matrix, layout = layer(name)
    packer = PagePacker(matrix, layout, random.Random(1).getrandbits)
    outputs, golden = outputs_of(packer, layout)
    assert outputs == golden


@pytest.mark.parametrize(
    "name",
    [
        "zero-points, scales, widths",
        "places of several beats",
        "blocks of one part",
        "headers of one slot and of several",
        "short spans",
    ],
)
def test_engine_takes_what_a_packer_may_choose(name):
    """Any dealing that outputs allow, any span, any format of padding rows, more padding."""
    matrix, layout = layer(name)
    outputs, golden = outputs_of(OtherPacker(matrix, layout, len(name)), layout, tokens=2)
    assert outputs == golden
