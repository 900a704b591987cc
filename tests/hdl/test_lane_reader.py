# amaranth: UnusedElaboratable=no
"""One lane's words into slices: all of them, in order, whatever stalls; errors in their place."""

import random

import pytest
from amaranth import ResetInserter, Signal

from lutra.hdl.header_reader import header_layout
from lutra.hdl.lane_reader import LaneReader, program_layout

FIELDS = ("slice", "row", "first", "last", "clear", "tile_end", "last_step")


class Bench:
    """A reader between a source of words and a taker of slices, with two banks of activations."""

    def __init__(self, ctx, dut, rng, chances=(0.0, 0.0, 0.0)):
        self.ctx, self.dut, self.rng, self.chances = ctx, dut, rng, chances
        self.banks: list[int | None] = [None, None]  # tile that each bank holds
        self.bank = 0  # the next to be filled
        self.leaving = {}  # bank to cycles until it is released
        self.cycles = self.refused = 0

    def stalls(self, index):
        """Whether the word, the slice or the bank is late this time."""
        return self.rng.random() < self.chances[index]

    async def layer(self, stream, *, words=None):
        """Give one layer, or other words in its place; check every slice; stop at an error."""
        ctx, dut = self.ctx, self.dut
        self.stream, self.words = stream, list(stream.words if words is None else words)
        self.next_tile = self.position = self.begun = 0
        self.short = self.unknown = False
        self.expected = None  # what must be out in this cycle
        ctx.set(dut.program, stream.program)
        ctx.set(dut.start, 1)
        finished = False
        while not (finished or self.short or self.unknown):
            self._fill_banks()
            pushes = self._offer_word()
            self._look_at_slice()
            self.short, self.unknown = bool(ctx.get(dut.cut_short)), bool(ctx.get(dut.unknown))
            await ctx.tick()
            ctx.set(dut.start, 0)
            self.position += pushes
            self.cycles += 1
            assert self.cycles < 20_000, f"stuck at word {self.position}, slice {self.begun}"
            finished = ctx.get(dut.done) and self.banks == [None, None] and not self.expected
        return self.position, self.begun

    def _fill_banks(self):
        """Fill banks in turn, release those that are done with."""
        released = {bank for bank, cycles in self.leaving.items() if cycles == 0}
        self.leaving = {b: cycles - 1 for b, cycles in self.leaving.items() if cycles > 0}
        free = self.banks[self.bank] is None and self.next_tile < self.stream.tiles
        if free and not self.stalls(2):
            self.banks[self.bank] = self.next_tile
            self.next_tile, self.bank = self.next_tile + 1, self.bank ^ 1
        self.ctx.set(self.dut.release, sum(1 << bank for bank in released))
        filled = sum(1 << bank for bank in range(2) if self.banks[bank] is not None)
        self.ctx.set(self.dut.filled, filled)
        for bank in released:
            self.banks[bank] = None

    def _offer_word(self):
        offers = self.position < len(self.words) and not self.stalls(0)
        pushes = bool(offers and self.ctx.get(self.dut.room))
        self.refused += offers and not pushes
        self.ctx.set(self.dut.push, pushes)
        if offers:
            word, ends_span = self.words[self.position]
            self.ctx.set(self.dut.word, word)
            self.ctx.set(self.dut.ends_span, ends_span)
        return pushes

    def _look_at_slice(self):
        ctx, dut = self.ctx, self.dut
        ready = not self.stalls(1)
        ctx.set(dut.slice_ready, ready)
        if self.expected is not None:
            self._check_taken(self.expected)
            self.expected = None
        if not ctx.get(dut.slice_valid):
            return
        item = self.stream.slices[self.begun]
        for name in FIELDS:
            assert ctx.get(dut.slice[name]) == item[name], f"{name} of slice {self.begun}"
        bank = item["slice"] >> len(dut.slice.slice) - 1
        assert self.banks[bank] == item["tile"], "a tile that is not there"
        if ready:
            self.expected = item
            self.begun += 1
            if item["tile_end"]:
                self.leaving[bank] = self.rng.randrange(1, 6)

    def _check_taken(self, item):
        ctx, dut = self.ctx, self.dut
        for name in item["header"]:
            assert ctx.get(dut.header[name]) == item["header"][name], name
        width = self.stream.layout.members[item["header"]["format"]].code_width
        for bit in range(width):
            column = sum((code >> bit & 1) << i for i, code in enumerate(item["codes"]))
            assert ctx.get(dut.codes[bit]) == column


FORMATS = [
    ("int3",),
    ("bcq1", "int8", "bitmod3"),
    ("bcq3_asym", "int2_asym", "ternary"),
    ("int8_asym",),
]


@pytest.mark.parametrize("chances", [(0, 0, 0), (0.6, 0, 0), (0, 0.8, 0), (0, 0, 0.95), (0.4,) * 3])
@pytest.mark.parametrize("formats", FORMATS, ids="+".join)
@pytest.mark.parametrize(("width", "ahead"), [(8, 2), (16, 16), (32, 5)])
def test_every_slice(hdl, formats, width, ahead, chances):
    """Layers of any shape in turn: spans of one tile and of all, rubbish behind them."""
    parameters = hdl.parameters(
        formats,
        lanes=4,
        width=width,
        ahead=ahead,
        tile_slices=3,
        group_sizes=(width, 3 * width),
        max_rows=20,
        max_columns=20 * width,
    )
    dut = LaneReader(parameters=parameters)
    rng = random.Random(width + ahead)

    async def script(ctx):
        bench = Bench(ctx, dut, rng, chances)
        for number in range(6):
            stream = hdl.LaneStream(
                parameters,
                blocks=rng.randint(1, 5),
                slices=rng.choice([1, 2, 3, 4, 8, 9, 20]),
                segment_slices=rng.choice([1, 3]),
                span_tiles=rng.choice([1, 2, 3, 9]),
                row_bank=number % 2,
                first_bank=bench.bank,
                seed=rng.randrange(1000),
            )
            assert ctx.get(dut.done)
            assert await bench.layer(stream) == (len(stream.words), len(stream.slices))
            assert not bench.short
            assert not bench.unknown

    hdl.simulate(dut, script)


@pytest.mark.parametrize("formats", FORMATS, ids="+".join)
@pytest.mark.parametrize("ahead", [2, 16])
def test_a_word_every_cycle(hdl, formats, ahead):
    """While slices are taken, nothing is refused but while the first header is taken up."""
    parameters = hdl.parameters(formats, ahead=ahead, tile_slices=4, group_sizes=(8,), max_rows=48)
    dut = LaneReader(parameters=parameters)

    async def script(ctx):
        bench = Bench(ctx, dut, random.Random(1))
        stream = hdl.LaneStream(
            parameters, blocks=12, slices=8, segment_slices=1, span_tiles=2, padding=0, seed=1
        )
        await bench.layer(stream)
        # Each record of one word takes two cycles where there are formats to look up, three in the
        # smallest of queues.
        numbers = [header["format"] for *_, header, _ in stream.records]
        alone = [parameters.layout.members[number].code_width for number in numbers].count(1)
        alone *= 1 if ahead > 2 else 2
        assert bench.refused <= 3 + alone
        # One to start, one through the queue, two for the first header, some to give banks back.
        assert bench.cycles <= len(stream.words) + 4 + 8 + alone

    hdl.simulate(dut, script)


@pytest.mark.parametrize("ahead", [2, 7, 16])
def test_words_wait_for_activations(hdl, ahead):
    """At least `ahead` words are taken of a tile without activations, but no slice is complete."""
    parameters = hdl.parameters(("int8",), ahead=ahead, tile_slices=2, group_sizes=(8,))
    dut = LaneReader(parameters=parameters)
    stream = hdl.LaneStream(
        parameters, blocks=1, slices=8, segment_slices=1, span_tiles=4, padding=0, seed=1
    )

    async def script(ctx):
        ctx.set(dut.program, stream.program)
        ctx.set(dut.start, 1)
        ctx.set(dut.filled, 0b11)
        ctx.set(dut.slice_ready, 1)
        position = slices = 0
        for _ in range(150):
            room = ctx.get(dut.room) and position < len(stream.words)
            ctx.set(dut.push, room)
            word, ends = stream.words[min(position, len(stream.words) - 1)]
            ctx.set(dut.word, word)
            ctx.set(dut.ends_span, ends)
            slices += ctx.get(dut.slice_valid)
            await ctx.tick()
            ctx.set(dut.start, 0)
            position += room
        assert slices == 4  # both tiles' slices are collected; the banks are still in use
        batch_words, batch_headers = parameters.layout.batch_shape
        batches = 1 + 4 // batch_headers
        needed = 4 * 8 + batches * batch_words
        assert needed + ahead <= position <= needed + ahead + 8 + batch_words
        ctx.set(dut.release, 0b01)
        await ctx.tick()
        ctx.set(dut.release, 0)
        ctx.set(dut.filled, 0b10)
        for _ in range(20):
            assert not ctx.get(dut.slice_valid)
            await ctx.tick()
        ctx.set(dut.filled, 0b11)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.slice_valid)

    hdl.simulate(dut, script)


@pytest.mark.parametrize("ends", ["the span", "the layer"])
@pytest.mark.parametrize("formats", FORMATS[1:3], ids="+".join)
def test_short_spans(hdl, formats, ends):
    """A span may end with its last record's last word and not before; whatever is cut off."""
    parameters = hdl.parameters(formats, tile_slices=2, group_sizes=(8,), max_rows=8)
    dut, reset = LaneReader(parameters=parameters), Signal()
    span_tiles = 1 if ends == "the span" else 2
    stream = hdl.LaneStream(
        parameters, blocks=2, slices=4, segment_slices=1, span_tiles=span_tiles, padding=0, seed=3
    )
    last = next(index for index, (_, end) in enumerate(stream.words) if end)

    async def script(ctx):
        for cut in range(last + 1):
            words = [(word, False) for word, _ in stream.words[:cut]]
            words += [(stream.words[cut][0], True), *stream.words[last + 1 :]]
            bench = Bench(ctx, dut, random.Random(1))
            if cut < last:
                await bench.layer(stream, words=words)
                assert bench.short
                assert not bench.unknown
            else:
                assert await bench.layer(stream, words=words) == (len(words), len(stream.slices))
                assert not bench.short
                return
            # The engine clears its lanes after an error; a reset does the same here.
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)

    hdl.simulate(ResetInserter(reset)(dut), script)


@pytest.mark.parametrize("record", [0, 1, 6, 7])
@pytest.mark.parametrize(
    ("what", "formats"),
    [
        ("format", ("bitmod3", "bcq1_asym")),
        ("format", ("int5",)),
        ("scale_0", ("bitmod3", "bcq1_asym")),
        ("scale_1", ("bcq1_asym",)),
        ("scale_3", ("bcq4", "bcq3_asym")),
    ],
)
def test_unknown(hdl, record, what, formats):
    """A format that is none, or the lowest scale, is told of when its record is begun."""
    parameters = hdl.parameters(formats, tile_slices=2, group_sizes=(8,), max_rows=8)
    layout = parameters.layout
    dut = LaneReader(parameters=parameters)
    stream = hdl.LaneStream(
        parameters, blocks=2, slices=4, segment_slices=1, span_tiles=1, padding=0, seed=3
    )
    value = len(layout.members) if what == "format" else 1 << layout.scale_width
    bad = stream.words_with(record, what, value)
    assert bad != stream.words

    async def script(ctx):
        bench = Bench(ctx, dut, random.Random(1))
        _, begun = await bench.layer(stream, words=bad)
        assert bench.unknown
        assert not bench.short
        # The slices before it are on their way, at most one of them not taken yet.
        assert record - 1 <= begun <= record

    hdl.simulate(dut, script)


@pytest.mark.parametrize(
    ("name", "zero_width"), [("bitmod4", 0), ("bcq4_asym", 0), ("int3_asym", 3)]
)
def test_header_has_all_that_any_format_has(hdl, name, zero_width):
    layout = hdl.parameters((name, "int2")).layout
    header = header_layout(layout)
    fields = layout.record_header(layout.members[0])
    assert [field for field, _ in header] == [
        "format",
        *(f"scale_{index}" for index in range(layout.scale_count)),
        "zero",
    ]
    for field, width in fields.items():
        assert header[field].width == width
    assert header["zero"].width == zero_width


def test_program_holds_the_largest_layer(hdl):
    parameters = hdl.parameters(max_rows=17, max_columns=80, tile_slices=3, group_sizes=())
    layout = program_layout(parameters)
    limits = {"block": 4, "tile": 3, "segment_slice": 2, "tile_slice": 2, "span_tile": 3}
    for name, limit in limits.items():
        assert layout[name].width >= limit.bit_length(), name
