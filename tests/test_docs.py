"""The documentation against the code: examples, tables, links, and a packer written from a page."""

import dataclasses
import doctest
import importlib.util
import itertools
import random
import re
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from amaranth import Shape

from lutra.formats import Numerics, QuantizedMatrix, StreamLayout, pack
from lutra.formats.layout import LAYER_HEADER, LAYER_MAGIC, STREAM_VERSION, TILE_HEADER, TILE_MAGIC
from lutra.gen import EngineConfig
from lutra.gen.backends import AmaranthBackend, NumpyBackend
from lutra.hdl import Error, LutParameters, Status
from lutra.hdl.activation_store import activation_layout
from lutra.hdl.convert_output import output_layout
from lutra.hdl.unpack import weight_layout
from lutra.sim import random_matrix
from lutra.sim.interface import EngineInterface

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
STREAM_PAGE = ROOT / "docs" / "weight-stream.md"
ALL_PAGES = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def name_of(path):
    return path.name


# -- examples, generated pages, links ------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples(page):
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
    assert with_examples >= {"arithmetic.md", "model-file.md", "weight-stream.md"}


def test_formats_page_is_generated():
    path = ROOT / "docs" / "formats.py"
    spec = importlib.util.spec_from_file_location("docs_formats", path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    text = generator.PAGE.read_text(encoding="utf-8")
    assert text == generator.page(), "run .venv/bin/python docs/formats.py"


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
    [("LAYER_HEADER", LAYER_HEADER, LAYER_MAGIC), ("TILE_HEADER", TILE_HEADER, TILE_MAGIC)],
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
    layout = StreamLayout(lanes=6, width=24, tile_slices=2, formats=("int4",))
    act_width = 8 if activation == "int8" else 12
    parameters = LutParameters(
        layout=layout,
        numerics=Numerics(activation=activation, act_width=act_width, output=output),
        act_lanes=4,
        output_lanes=3,
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


class PagePacker:
    """A packer that takes nothing but the facts that packer and engine agree on from Lutra."""

    def __init__(self, matrix: QuantizedMatrix, layout: StreamLayout, fill: Fill) -> None:
        self.matrix, self.fill = matrix, fill
        self.lanes, self.width = layout.lanes, layout.width
        self.tile_slices, self.scale_width = layout.tile_slices, layout.scale_width
        self.members = layout.members
        self.rows, self.columns = matrix.codes.shape
        self.blocks = -(-self.rows // self.lanes)
        self.slices = -(-self.columns // self.width)
        self.segment_slices = self.tile_slices
        if matrix.group_size < self.columns:
            self.segment_slices = min(matrix.group_size // self.width, self.tile_slices)
        zeros = [item.code_width for item in self.members if item.has_zero_point]
        self.format_bits = max(1, (len(self.members) - 1).bit_length())
        self.scales = max(item.scale_count for item in self.members)
        self.zero_bits = max(zeros, default=0)
        self.header_bits = self.format_bits + self.scales * (self.scale_width + 1) + self.zero_bits

    def stream(self) -> list[int]:
        """Return all beats of the layer."""
        tiles = -(-self.slices // self.tile_slices)
        beats = self._header(
            (0x754C, 16),
            (1, 8),
            (0, 8),
            (self._fingerprint(), 32),
            (self.rows, 32),
            (self.columns, 32),
            (self.blocks, 32),
            (self.segment_slices, 16),
            (tiles, 16),
        )
        for block in range(self.blocks):
            count = -(-32 // self.width)
            beats += self._side_by_side(
                [self._row_scale(n, count) for n in self._block(block)], count
            )
        beats = self._section(beats)
        for tile in range(tiles):
            first = tile * self.tile_slices
            last = min(first + self.tile_slices, self.slices)
            payload = self._payload(first, last)
            fields = (0x6954, 16), (tile, 16), (last - first, 16), (0, 16)
            beats += self._section(self._header(*fields, (len(payload), 32)) + payload)
        return beats

    def _block(self, number: int) -> range:
        return range(number * self.lanes, (number + 1) * self.lanes)

    def _header(self, *fields: tuple[int, int]) -> list[int]:
        word = position = 0
        for value, bits in fields:
            word |= value << position
            position += bits
        beat_bits = self.lanes * self.width
        count = -(-position // beat_bits)
        word |= self.fill(count * beat_bits - position) << position
        return [word >> i * beat_bits & (1 << beat_bits) - 1 for i in range(count)]

    def _side_by_side(self, words: list[int], count: int) -> list[int]:
        mask = (1 << self.width) - 1
        beats = [[word >> i * self.width & mask for word in words] for i in range(count)]
        return [sum(part << i * self.width for i, part in enumerate(beat)) for beat in beats]

    def _section(self, beats: list[int]) -> list[int]:
        size = self.lanes * self.width // 8
        checksum = zlib.crc32(b"".join(beat.to_bytes(size, "little") for beat in beats))
        return [*beats, checksum | self.fill(8 * size - 32) << 32]

    def _fingerprint(self) -> int:
        lines = [f"{self.lanes} {self.width} {self.tile_slices} {self.scale_width}"]
        for item in self.members:
            lines.append(f"{item.code_width} {int(item.has_zero_point)}")
            for plane in item.planes:
                lines[-1] += f" {plane.coefficient},{plane.truth:x},{int(plane.bipolar)}"
                lines[-1] += f",{plane.scale_index}"
        return zlib.crc32(("\n".join(lines) + "\n").encode("ascii"))

    def _row_scale(self, n: int, count: int) -> int:
        if n >= self.rows:
            return self.fill(count * self.width)
        scale = int(self.matrix.row_scales[n : n + 1].view("u4")[0])
        return scale | self.fill(count * self.width - 32) << 32

    def _payload(self, first: int, last: int) -> list[int]:
        least = -(-self.header_bits // self.width)
        choices = range(least, max(least, 128 // self.width) + 1)
        room = {n: n * self.width // self.header_bits for n in choices}
        count = min(choices, key=lambda n: (Fraction(n, room[n]), n))
        starts = range(first, last, self.segment_slices)
        records = [
            (block, start, min(start + self.segment_slices, last))
            for block, start in itertools.product(range(self.blocks), starts)
        ]
        batches = [
            self._batch(records[i : i + room[count]], count)
            for i in range(0, len(records), room[count])
        ]
        beats = batches[0]
        for number, record in enumerate(records):
            if (number + 1) % room[count] == 0 and number + 1 < len(records):
                beats += batches[(number + 1) // room[count]]
            beats += self._codes(*record)
        return beats

    def _batch(self, records: list[tuple[int, int, int]], count: int) -> list[int]:
        used = len(records) * self.header_bits
        words = [self.fill(count * self.width - used) << used] * self.lanes
        for index, (block, start, _) in enumerate(records):
            for lane, n in enumerate(self._block(block)):
                words[lane] |= self._record_header(n, start) << index * self.header_bits
        return self._side_by_side(words, count)

    def _format_of(self, n: int, k: int):
        """Format of a weight; padding rows have the last row's."""
        row = min(n, self.rows - 1)
        return self.matrix.members[self.matrix.format_ids[row, k // self.matrix.group_size]]

    def _record_header(self, n: int, start: int) -> int:
        padding = n >= self.rows
        group = start * self.width // self.matrix.group_size
        item = self._format_of(n, start * self.width)
        word, position = self.members.index(item), self.format_bits
        for index in range(self.scales):
            bits = self.scale_width + 1
            scale = self.fill(bits - 1)  # any but the one that is refused
            if index < item.scale_count and not padding:
                scale = int(self.matrix.scales[n, group, index]) % (1 << bits)
            word |= scale << position
            position += bits
        used = item.code_width if item.has_zero_point and not padding else 0
        if self.zero_bits:
            zero = int(self.matrix.zeros[n, group]) if used else 0
            zero |= self.fill(self.zero_bits - used) << used
            word |= zero << position
        return word

    def _codes(self, block: int, start: int, end: int) -> list[int]:
        rows = self._block(block)
        width = max(self._format_of(n, start * self.width).code_width for n in rows)
        beats = []
        for slice_index, bit in itertools.product(range(start, end), range(width)):
            columns = range(slice_index * self.width, (slice_index + 1) * self.width)
            places = itertools.product(rows, columns)
            beats.append(sum(self._code_bit(n, k, bit) << i for i, (n, k) in enumerate(places)))
        return beats

    def _code_bit(self, n: int, k: int, bit: int) -> int:
        if n >= self.rows or k >= self.columns or bit >= self._format_of(n, k).code_width:
            return self.fill(1)
        return int(self.matrix.codes[n, k]) >> bit & 1


def no_padding(bits: int) -> int:
    return 0


def integers(beats):
    return [int.from_bytes(beat.tobytes(), "little") for beat in beats]


LAYERS = {
    # Headers that fill a beat, so that every batch has one; two tiles of unequal length.
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
    assert PagePacker(matrix, layout, no_padding).stream() == integers(pack(matrix, layout).beats)


@pytest.mark.parametrize("name", ["zero-points, scales, widths", "headers of several beats"])
def test_engine_ignores_padding(name):
    matrix, layout = layer(name)
    numerics = Numerics(activation="int8", act_width=8)
    parameters = LutParameters(layout=layout, numerics=numerics, act_lanes=8)
    config = EngineConfig(name="engine", parameters=parameters)
    packed = pack(matrix, layout)
    filled = PagePacker(matrix, layout, random.Random(1).getrandbits).stream()
    assert filled != integers(packed.beats)
    size = layout.beat_width // 8
    raw = np.frombuffer(b"".join(beat.to_bytes(size, "little") for beat in filled), dtype=np.uint8)
    packed = dataclasses.replace(packed, beats=raw.reshape(-1, size))
    x = np.random.default_rng(1).integers(-128, 128, (1, matrix.columns), dtype=np.int8)
    outputs = AmaranthBackend(config, lambda *_: None).run(matrix, x, packed=packed).outputs
    golden = NumpyBackend(config, lambda *_: None).run(matrix, x).outputs
    assert outputs.tobytes() == golden.tobytes()
