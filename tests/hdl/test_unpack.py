# amaranth: UnusedElaboratable=no
"""The stream's reader: what it says of every beat and of every layer, under stalls."""

import random

import pytest
from amaranth import Value

from lutra.formats.layout import FRAME_BEATS
from lutra.hdl import Error
from lutra.hdl.lane import row_fill_layout
from lutra.hdl.unpack import WAITING_CYCLES, Unpack, weight_layout
from lutra.sim import random_matrix
from lutra.sim.handshake import Source, StallPattern


def _row_beats(layout, blocks, row_bank):
    """Return what each beat of the row section is, from the page that specifies it."""
    bank = row_bank << (layout.max_blocks - 1).bit_length()
    for block in range(blocks):
        place = block % layout.places_of_beat if layout.places_of_beat else 0
        if layout.places_of_beat and place == 0:
            yield ("places",)
        for part in range(layout.row_scale_beats):
            yield "scale", part, bank | block, place


def _plan(layout, matrix, packed, row_bank):
    """Return what each beat of a layer is, in order."""
    beats = [("nothing",)] * layout.layer_header_beats
    beats += _row_beats(layout, -(-matrix.rows // layout.lanes), row_bank)
    beats += [("nothing",)]
    while len(beats) < len(packed.beats):
        head = packed.beats[len(beats) : len(beats) + layout.span_header_beats]
        words = int.from_bytes(head.tobytes(), "little") >> 32 & 0xFFFFFFFF
        beats += [("nothing",)] * layout.span_header_beats
        for index in range(words):
            beats.append(("word", index == words - 1))
            if index % FRAME_BEATS == FRAME_BEATS - 1 or index == words - 1:
                beats.append(("nothing",))
    assert len(beats) == len(packed.beats)
    return beats


def _shown(ctx, dut):
    """Name what the lanes are told to do with the beat at hand."""
    fill = dut.row_fill
    places, scale, push = ctx.get(fill.places), ctx.get(fill.scale), ctx.get(dut.push)
    assert bool(places) + bool(scale) + bool(push) <= 1
    if places:
        return ("places",)
    if scale:
        assert scale & (scale - 1) == 0
        return "scale", scale.bit_length() - 1, ctx.get(fill.row), ctx.get(fill.place)
    return ("word", bool(ctx.get(dut.ends_span))) if push else ("nothing",)


class Lanes:
    """Lanes that have room, hold tiles and are idle as chance has it."""

    def __init__(self, ctx, dut, chance, seed):
        self.ctx, self.dut, self.chance = ctx, dut, chance
        self.rng = random.Random(seed)
        self.working = 0

    def drive(self):
        """Set what the reader is told in this cycle."""
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.room, self.rng.random() >= self.chance)
        ctx.set(dut.idle, self.working == 0)
        ctx.set(dut.working, 1)
        ctx.set(dut.filled, self.rng.getrandbits(2) if self.chance else 0b11)

    def observe(self):
        """Be at work for some cycles after each word."""
        self.working = 5 if self.ctx.get(self.dut.push) else max(0, self.working - 1)


SHAPES = [
    # lanes, output lanes, width, rows, columns, group size
    (4, 1, 8, 3, 8, 8),
    (4, 4, 8, 7, 37, 8),
    (4, 2, 8, 12, 40, 16),
    (4, 1, 8, 40, 24, 8),  # places of several beats
    (6, 2, 8, 50, 80, 32),
    (2, 1, 24, 9, 70, 24),
    (1, 1, 32, 5, 100, 32),
    (8, 1, 64, 17, 130, 64),
    (1, 1, 32, 9, 3000, 32),  # a span of several frames
]


@pytest.mark.parametrize("chance", [0.0, 0.4])
@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_every_beat(hdl, shape, chance):
    """Three layers, so that banks change; without stalls only the checks of headers take time."""
    lanes, output_lanes, width, rows, columns, group_size = SHAPES[shape]
    parameters = hdl.parameters(
        ("int3", "int8"),
        lanes=lanes,
        output_lanes=output_lanes,
        width=width,
        group_sizes=(group_size,),
        max_rows=50,
        max_columns=3000,
        ahead=2,
        tokens=2,
    )
    layout = parameters.layout
    dut = Unpack(parameters=parameters)
    bench = hdl.EngineBench(parameters, engine=object())
    matrix = random_matrix(layout.members, rows, columns, group_size, seed=1)
    packed = parameters.pack(matrix)
    if lanes == 1 and columns == 3000:
        assert len(packed.beats) > FRAME_BEATS
        assert packed.span_tiles * layout.tile_columns >= columns
    source = Source(bench.w(packed) * 3, StallPattern(chance, 3))
    tiles = -(-columns // layout.tile_columns)
    spans = -(-tiles // packed.span_tiles)
    beats = -(-columns // 4)
    program = {
        "block": -(-rows // lanes) - 1,
        "tile": tiles - 1,
        "segment_slice": (layout.segment_slices(group_size) if matrix.groups > 1 else 2) - 1,
        "tile_slice": (-(-columns // width) - 1) % layout.tile_slices,
        "span_tile": min(packed.span_tiles, tiles) - 1,
    }

    async def layer(ctx, lanes, number):
        wanted = _plan(layout, matrix, packed, number % 2)
        started = done = lost = 0
        while wanted or not done:
            ctx.set(dut.i.valid, source.valid)
            ctx.set(Value.cast(dut.i.payload), source.payload)
            lanes.drive()
            takes = source.valid and ctx.get(dut.i.ready)
            shown = _shown(ctx, dut)
            assert shown == (wanted.pop(0) if takes else ("nothing",)), len(wanted)
            lost += source.valid and not takes
            if ctx.get(dut.start):
                started += 1
                assert ctx.get(dut.filled) >> (number * tiles) % 2 & 1
            if shown[0] == "word":
                assert started
                got = {name: ctx.get(dut.program[name]) for name in program}
                assert got == program
                assert ctx.get(dut.program.row_bank) == number % 2
            if ctx.get(dut.done):
                done += 1
                assert not wanted
                assert ctx.get(dut.idle)
                assert ctx.get(dut.rows) == rows
                assert ctx.get(dut.row_bank) == number % 2
                for token in range(2):
                    assert ctx.get(dut.layer_tokens[token].beats) == beats
                    assert ctx.get(dut.layer_tokens[token].exponent) == token + 1
            lanes.observe()
            source.observe(bool((await ctx.tick().sample(dut.i.ready))[-1]))
        assert started == done == 1
        return lost

    async def script(ctx):
        ctx.set(dut.rows_free, 0b11)
        for bank in range(2):
            for token in range(2):
                ctx.set(dut.kept_tokens[bank][token], {"beats": beats, "exponent": token + 1})
        lanes = Lanes(ctx, dut, chance, seed=2)
        for number in range(3):
            lost = await layer(ctx, lanes, number)
            # Three cycles for the check of the layer's header, two for that of each span's, one for
            # the vectors; and at the end, where another layer waits, until the lanes are idle.
            assert chance > 0 or lost == 4 + 2 * spans + (5 if number < 2 else 0)
        assert ctx.get(dut.error) == Error.NONE
        assert not ctx.get(dut.busy)

    hdl.simulate(dut, script)


def _offering(ctx, dut, source):
    """Return what clocks a reader while a source is offered to it."""

    async def cycles(count):
        for _ in range(count):
            ctx.set(dut.i.valid, source.valid)
            ctx.set(Value.cast(dut.i.payload), source.payload)
            source.observe(bool((await ctx.tick().sample(dut.i.ready))[-1]))

    return cycles


def test_row_sums_are_waited_for(hdl):
    """No row scale is written while the bank's last layer is still being read."""
    parameters = hdl.parameters(("int3",))
    dut = Unpack(parameters=parameters)
    bench = hdl.EngineBench(parameters, engine=object())
    source = Source(bench.w(random_matrix("int3", 3, 8, 8, seed=1)))

    async def script(ctx):
        cycles = _offering(ctx, dut, source)
        ctx.set(dut.rows_free, 0b10)
        await cycles(30)
        assert source.sent == parameters.layout.layer_header_beats
        ctx.set(dut.rows_free, 0b01)
        await cycles(4)
        assert source.sent > parameters.layout.layer_header_beats

    hdl.simulate(dut, script)


def test_activations_are_waited_for(hdl):
    """No span is begun before the first tile is there: then the vectors are known."""
    parameters = hdl.parameters(("int3",))
    layout = parameters.layout
    dut = Unpack(parameters=parameters)
    bench = hdl.EngineBench(parameters, engine=object())
    source = Source(bench.w(random_matrix("int3", 3, 8, 8, seed=1)))
    before = layout.layer_header_beats + 1 + layout.row_scale_beats + 1

    async def script(ctx):
        cycles = _offering(ctx, dut, source)
        ctx.set(dut.rows_free, 0b11)
        ctx.set(dut.room, 1)
        ctx.set(dut.filled, 0b10)
        await cycles(40)
        assert source.sent == before
        ctx.set(dut.filled, 0b01)
        ctx.set(dut.kept_tokens[0][0].beats, 2)
        await cycles(5)
        assert source.sent > before
        assert ctx.get(dut.error) == Error.NONE

    hdl.simulate(dut, script)


@pytest.mark.parametrize(
    ("name", "error"),
    [("unknown", Error.FORMAT), ("cut_short", Error.LENGTH), ("both", Error.FORMAT)],
)
def test_what_lanes_find(hdl, name, error):
    """It stops the layer, sticks, and what comes is discarded."""
    parameters = hdl.parameters(("int3",))
    dut = Unpack(parameters=parameters)
    bench = hdl.EngineBench(parameters, engine=object())
    beats = bench.w(random_matrix("int3", 3, 40, 8, seed=1))
    source = Source(beats * 2)

    async def script(ctx):
        cycles = _offering(ctx, dut, source)
        ctx.set(dut.rows_free, 0b11)
        ctx.set(dut.filled, 0b11)
        for bank in range(2):
            ctx.set(dut.kept_tokens[bank][0].beats, 10)
        ctx.set(dut.room, 1)
        await cycles(len(beats) - 10)
        assert ctx.get(dut.error) == Error.NONE
        for signal in ("unknown", "cut_short"):
            ctx.set(getattr(dut, signal), name in (signal, "both"))
        await cycles(1)
        ctx.set(dut.unknown, 0)
        ctx.set(dut.cut_short, 0)
        await cycles(1)
        ctx.set(dut.room, 0)
        while not source.finished:
            sent = source.sent
            await cycles(1)
            assert source.sent == sent + 1  # whether or not lanes have room
            assert ctx.get(dut.error) == error
            assert not ctx.get(dut.push)
            assert not ctx.get(dut.done)

    hdl.simulate(dut, script)


def test_layouts(hdl):
    parameters = hdl.parameters(("int3",), max_rows=12, tile_slices=2)
    weights = weight_layout(parameters)
    assert (weights["data"].offset, weights["data"].width) == (0, 32)
    assert (weights["last"].offset, weights.size) == (32, 33)
    fill = row_fill_layout(parameters)
    assert fill["scale"].width == 4
    assert fill["row"].width == 3
    assert fill["place"].width == 2  # one of four blocks


@pytest.mark.parametrize("what", ["room", "work", "neither"])
def test_lanes_that_wait_for_each_other(hdl, what):
    """No room and nothing that moves, for long enough, is a span that is longer than it may be."""
    parameters = hdl.parameters(("int3",), group_sizes=(8,))
    dut = Unpack(parameters=parameters)
    matrix = random_matrix("int3", 3, 24, 8, seed=1)
    bench = hdl.EngineBench(parameters, engine=object())
    beats = bench.w(parameters.pack(matrix))
    beats_of_tokens = {"beats": 6}

    async def script(ctx):
        ctx.set(dut.rows_free, 0b11)
        ctx.set(dut.filled, 0b11)
        ctx.set(dut.room, 1)
        ctx.set(dut.working, 1)
        ctx.set(dut.kept_tokens, [[beats_of_tokens]] * 2)
        ctx.set(dut.i.valid, 1)
        pushed = 0
        while not pushed:
            ctx.set(Value.cast(dut.i.payload), beats[0])
            pushed, taken = ctx.get(dut.push), ctx.get(dut.i.ready)
            await ctx.tick()
            if taken:
                beats.pop(0)
        ctx.set(Value.cast(dut.i.payload), beats[0])
        for _ in range(3):  # short waits are no errors
            ctx.set(dut.room, 0)
            ctx.set(dut.working, 0)
            for _ in range(WAITING_CYCLES - 1):
                await ctx.tick()
                assert Error(ctx.get(dut.error)) == Error.NONE
            ctx.set(dut.working, 1)
            await ctx.tick()
        ctx.set(dut.room, what == "room")
        ctx.set(dut.working, what == "work")
        ctx.set(dut.i.valid, 0)
        for _ in range(WAITING_CYCLES + 1):
            assert Error(ctx.get(dut.error)) == Error.NONE
            await ctx.tick()
        assert Error(ctx.get(dut.error)) == (Error.LENGTH if what == "neither" else Error.NONE)

    hdl.simulate(dut, script)


@pytest.mark.parametrize("late", range(5))
@pytest.mark.parametrize("fault", [None, "header", "weights", "checksum"])
@pytest.mark.parametrize("width", [8, 40])
def test_no_layer_is_done_before_its_checksum(hdl, width, fault, late):
    """Even if lanes are idle at once, and however late the last checksum comes."""
    parameters = hdl.parameters(("int3",), width=width, group_sizes=(width,))
    dut = Unpack(parameters=parameters)
    bench = hdl.EngineBench(parameters, engine=object())
    beats = bench.w(random_matrix("int3", 3, width, width, seed=1))
    last = len(beats) - 1
    rows = parameters.layout.layer_header_beats
    place = {"header": rows + 1, "weights": last - 1, "checksum": last}
    if fault:
        beats[place[fault]] ^= 1 << 5
    latency = 3 if parameters.layout.beat_width > 128 else 2

    async def script(ctx):
        ctx.set(dut.rows_free, 0b11)
        ctx.set(dut.filled, 0b11)
        ctx.set(dut.room, 1)
        ctx.set(dut.idle, 1)
        for bank in range(2):
            ctx.set(dut.kept_tokens[bank][0].beats, width // 4)
        # The vectors do not suit the layer either where its header is wrong: that comes second.
        if fault == "header":
            ctx.set(dut.kept_tokens[0][0].beats, 1)
        sent = done = pause = 0
        taken = {}
        for cycle in range(len(beats) + 40):
            valid = sent < len(beats) and (sent != last or pause == late)
            pause += sent == last and not valid
            ctx.set(dut.i.valid, valid)
            ctx.set(Value.cast(dut.i.payload), beats[min(sent, last)])
            if ctx.get(dut.done):
                done += 1
                assert cycle == taken[last] + latency + 1
            if valid and ctx.get(dut.i.ready):
                taken[sent] = cycle
                sent += 1
            await ctx.tick()
        assert sent == len(beats)
        assert Error(ctx.get(dut.error)) == (Error.CRC if fault else Error.NONE)
        assert done == (fault is None)

    hdl.simulate(dut, script)
