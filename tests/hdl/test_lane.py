# amaranth: UnusedElaboratable=no
"""One lane by itself: exact latencies, and row sums of random records at any pace."""

import random

import numpy as np
import pytest
from amaranth import Module, Value

from lutra.formats import Numerics
from lutra.hdl.cores import builder_for
from lutra.hdl.lane import Lane, LaneSchedule
from lutra.hdl.token_stores import TokenStores
from lutra.sim.handshake import Source

INT8 = Numerics(activation="int8", act_width=8)


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        # Three for the key, one for the table and one for each two levels of the tree, digits, then
        # the multiplier. Row sums are read three cycles ahead, less where they may follow sooner.
        ({"mu": 8}, (4, 5, 7, 10)),
        ({"mu": 4}, (5, 6, 8, 11)),
        ({"mu": 1}, (6, 7, 9, 12)),
        ({"mu": 1, "adder_levels": 1}, (7, 8, 10, 13)),
        ({"mu": 1, "width": 32, "group_sizes": (32,), "lanes": 1}, (7, 8, 10, 13)),
        ({"mu": 4, "multiply": "dsp"}, (5, 6, 5, 8)),
        ({"mu": 4, "formats": ("bcq2",)}, (5, 6, 7, 8)),
        ({"mu": 4, "formats": ("bitmod3",)}, (5, 6, 8, 11)),
        # Coefficients that are no powers of two take one more for their adders.
        ({"mu": 4, "formats": ("bitmod4",)}, (5, 7, 10, 13)),
        ({"mu": 4, "formats": ("int8",), "group_sizes": (16,)}, (5, 6, 9, 12)),
    ],
)
def test_schedule(hdl, changes, stages):
    schedule = LaneSchedule(hdl.parameters(numerics=INT8, **changes))
    release, combine, prepare, add = stages
    assert schedule.release == release
    assert schedule.combine == combine
    assert schedule.prepare == prepare
    assert schedule.add == add


class Bench:
    """A lane whose activations come as in an engine and whose words the test gives."""

    def __init__(self, hdl, *formats, **changes):
        self.hdl = hdl
        self.parameters = hdl.parameters(formats, INT8, **changes)
        self.module = m = Module()
        m.submodules.stores = self.stores = stores = TokenStores(parameters=self.parameters)
        m.submodules.builder = self.builder = builder = builder_for(self.parameters)
        m.submodules.lane = self.lane = lane = Lane(parameters=self.parameters)
        m.d.comb += [
            builder.token_ready.eq(stores.ready),
            builder.tokens.eq(stores.tokens),
            stores.release.eq(builder.release),
            stores.read.eq(builder.read),
            stores.read_beat.eq(builder.read_beat),
            builder.aligned.eq(stores.aligned),
            builder.aligned_valid.eq(stores.aligned_valid),
            lane.write.eq(builder.write),
            lane.filled.eq(builder.filled),
            lane.release.eq(lane.finished),
            builder.finished.eq(lane.finished),
        ]
        self.x = Source([])

    def vectors(self, slices, rng):
        """Return random activations (tokens, columns), the last ones in the last slice."""
        width = self.parameters.layout.width
        columns = slices * width - rng.randrange(width)
        values = [rng.randrange(-128, 128) for _ in range(columns * self.parameters.tokens)]
        return np.array(values, dtype=np.int8).reshape(self.parameters.tokens, columns)

    def offer(self, vectors):
        """Give the vectors of one pass."""
        self.x = Source(self.hdl.EngineBench(self.parameters, engine=object()).x(vectors))

    async def cycle(self, ctx):
        """Clock once, offering activations."""
        i = self.stores.i
        ctx.set(i.valid, self.x.valid)
        ctx.set(Value.cast(i.payload), self.x.payload)
        self.x.observe(bool((await ctx.tick().sample(i.ready))[-1]))

    async def layer(self, ctx, stream, rng, chance):
        """Give the words of a layer and wait until all is done."""
        lane = self.lane
        ctx.set(lane.program, stream.program)
        ctx.set(lane.start, 1)
        position = 0
        for _ in range(20_000):
            pushes = position < len(stream.words) and rng.random() >= chance and ctx.get(lane.room)
            ctx.set(lane.push, pushes)
            if pushes:
                word, ends_span = stream.words[position]
                ctx.set(lane.word, word)
                ctx.set(lane.ends_span, ends_span)
            assert not ctx.get(lane.unknown)
            assert not ctx.get(lane.cut_short)
            await self.cycle(ctx)
            position += bool(pushes)
            ctx.set(lane.start, 0)
            if position == len(stream.words) and not ctx.get(lane.busy):
                return
        raise AssertionError(f"stuck at word {position} of {len(stream.words)}")

    def sums(self, stream, vectors):
        """Return the sums of every row for each token, from weights as the formats define them."""
        width = self.parameters.layout.width
        slice_bits = self.parameters.slice_address_width - 1
        padded = np.zeros((len(vectors), stream.shape[1] * width), dtype=np.int64)
        padded[:, : vectors.shape[1]] = vectors
        sums = {}
        for item in stream.slices:
            header = item["header"]
            member = stream.layout.members[header["format"]]
            scales = [header[f"scale_{index}"] for index in range(member.scale_count)]
            table = self.hdl.streamed(member, member.weight_table(scales))
            weights = table[item["codes"]]
            if member.has_zero_point:
                weights = weights - table[header["zero"] & (1 << member.code_width) - 1]
            index = item["slice"] & (1 << slice_bits) - 1
            index += item["tile"] * stream.layout.tile_slices
            x = padded[:, index * width : (index + 1) * width]
            sums[item["row"]] = sums.get(item["row"], 0) + x @ weights
        return {row: total.tolist() for row, total in sums.items()}

    async def drained(self, ctx, row):
        """Read one row."""
        ctx.set(self.lane.drain, 1)
        ctx.set(self.lane.drain_row, row)
        for _ in range(2):  # out of memory, and on
            await self.cycle(ctx)
        return [ctx.get(total) for total in self.lane.drained.sums]


KINDS = [{"mu": 4}, {"mu": 3, "table": "half"}, {"engine": "term"}, {"engine": "mac", "fold": 4}]
MIXTURES = [("int3",), ("bcq2_asym", "int8", "bitmod3"), ("int2_asym", "ternary", "int4_asym")]


@pytest.mark.parametrize("chance", [0.0, 0.5])
@pytest.mark.parametrize("multiply", ["serial", "dsp"])
@pytest.mark.parametrize("formats", MIXTURES, ids="+".join)
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_row_sums(hdl, kind, formats, multiply, chance):
    """Layers of any shape after each other, for any kind of core and number of tokens."""
    rng = random.Random(kind)
    tokens = (1, 2, 4)[(kind + len(formats)) % 3]
    changes = {"multiply": multiply, "tokens": tokens, "group_sizes": (8, 16), "act_lanes": 2}
    bench = Bench(hdl, *formats, **changes, **KINDS[kind])

    async def script(ctx):
        tiles = 0
        for number in range(4):
            slices = rng.choice([1, 2, 3, 5, 8])
            stream = hdl.LaneStream(
                bench.parameters,
                blocks=rng.randint(1, 3),
                slices=slices,
                segment_slices=rng.choice([1, 2]),
                span_tiles=rng.choice([1, 2, 9]),
                row_bank=number % 2,
                first_bank=tiles % 2,
                seed=rng.randrange(1000),
            )
            tiles += stream.tiles
            vectors = bench.vectors(slices, rng)
            bench.offer(vectors)
            await bench.layer(ctx, stream, rng, chance)
            for row, expected in bench.sums(stream, vectors).items():
                assert await bench.drained(ctx, row) == expected, f"row {row} of layer {number}"

    hdl.simulate(bench.module, script)


@pytest.mark.parametrize("multiply", ["serial", "dsp"])
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_latency_of_a_row_sum(hdl, kind, multiply):
    """The sum stands in memory in the cycle after the schedule's addition, and not before."""
    bench = Bench(hdl, "int3_asym", multiply=multiply, group_sizes=(8,), act_lanes=2, **KINDS[kind])
    stream = hdl.LaneStream(
        bench.parameters, blocks=1, slices=1, segment_slices=1, span_tiles=1, padding=0, seed=1
    )
    rng = random.Random(1)

    async def script(ctx):
        vectors = bench.vectors(1, rng)
        expected = bench.sums(stream, vectors)[0]
        bench.offer(vectors)
        lane = bench.lane
        while not ctx.get(bench.builder.filled):
            await bench.cycle(ctx)
        ctx.set(lane.program, stream.program)
        ctx.set(lane.start, 1)
        for word, _ in stream.words[:-1]:
            ctx.set(lane.word, word)
            ctx.set(lane.push, 1)
            await bench.cycle(ctx)
            ctx.set(lane.start, 0)
        ctx.set(lane.push, 0)
        for _ in range(20):
            await bench.cycle(ctx)
        word, ends_span = stream.words[-1]
        ctx.set(lane.word, word)
        ctx.set(lane.ends_span, ends_span)
        ctx.set(lane.push, 1)
        ctx.set(lane.drain, 1)
        seen = []
        cycles = bench.parameters.member_cycles[0]
        schedule = LaneSchedule(bench.parameters)
        for _ in range(schedule.add + cycles + 12):
            await bench.cycle(ctx)
            seen.append([ctx.get(total) for total in lane.drained.sums])
            ctx.set(lane.push, 0)
        assert expected != [0]
        # Into the queue, out of it, complete, taken; then the last step, the addition, and out of
        # memory and on.
        first = seen.index(expected)
        assert first == 5 + (cycles - 1) + schedule.add + 2
        assert all(value == expected for value in seen[first:])

    hdl.simulate(bench.module, script)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_busy_until_the_last_sum(hdl, kind):
    """`busy` from two cycles after the start on; when it falls, the row sums are final."""
    bench = Bench(hdl, "int4", group_sizes=(8,), act_lanes=2, **KINDS[kind])
    stream = hdl.LaneStream(
        bench.parameters, blocks=2, slices=4, segment_slices=1, span_tiles=2, padding=0, seed=2
    )
    rng = random.Random(2)

    async def script(ctx):
        lane = bench.lane
        vectors = bench.vectors(4, rng)
        assert not ctx.get(lane.busy)
        ctx.set(lane.program, stream.program)
        ctx.set(lane.start, 1)
        await bench.cycle(ctx)
        ctx.set(lane.start, 0)
        await bench.cycle(ctx)
        await bench.cycle(ctx)
        for _ in range(20):
            assert ctx.get(lane.busy)
            await bench.cycle(ctx)
        bench.offer(vectors)
        position = 0
        while ctx.get(lane.busy):
            pushes = position < len(stream.words) and ctx.get(lane.room)
            ctx.set(lane.push, pushes)
            if pushes:
                ctx.set(lane.word, stream.words[position][0])
                ctx.set(lane.ends_span, stream.words[position][1])
            await bench.cycle(ctx)
            position += bool(pushes)
        assert position == len(stream.words)
        ctx.set(lane.push, 0)
        for row, expected in bench.sums(stream, vectors).items():
            assert await bench.drained(ctx, row) == expected

    hdl.simulate(bench.module, script)


def test_clear(hdl):
    """Whatever was under way, the lane begins anew."""
    bench = Bench(hdl, "int3", "int8", group_sizes=(8,), act_lanes=2, mu=4)
    rng = random.Random(3)
    stream = hdl.LaneStream(
        bench.parameters, blocks=2, slices=2, segment_slices=1, span_tiles=1, padding=0, seed=3
    )

    async def script(ctx):
        lane = bench.lane
        vectors = bench.vectors(2, rng)
        bench.offer(vectors)
        for count in rng.sample(range(1, len(stream.words)), 12):
            ctx.set(lane.program, stream.program)
            ctx.set(lane.start, 1)
            for word, _ in stream.words[:count]:
                ctx.set(lane.word, word)
                ctx.set(lane.ends_span, 0)
                ctx.set(lane.push, ctx.get(lane.room))
                await bench.cycle(ctx)
                ctx.set(lane.start, 0)
            ctx.set(lane.push, 0)
            ctx.set(lane.clear, 1)
            await bench.cycle(ctx)
            ctx.set(lane.clear, 0)
            assert not ctx.get(lane.busy)
            assert not ctx.get(lane.unknown)
            assert ctx.get(lane.room)
        # Nothing was finished, so the tile is still there.
        await bench.layer(ctx, stream, rng, 0.0)
        for row, expected in bench.sums(stream, vectors).items():
            assert await bench.drained(ctx, row) == expected

    hdl.simulate(bench.module, script)


@pytest.mark.parametrize(("lanes", "output_lanes"), [(4, 1), (6, 2), (4, 4)])
@pytest.mark.parametrize("width", [8, 24, 32])
def test_row_scales_and_places(hdl, width, lanes, output_lanes):
    """Words lowest first; a row is written with its last word, and with its place."""
    bench = Bench(
        hdl,
        "int4",
        width=width,
        group_sizes=(width,),
        lanes=lanes,
        output_lanes=output_lanes,
        max_rows=8 * lanes,
    )
    lane, layout = bench.lane, bench.parameters.layout
    rng = random.Random(width)
    scales = {row: rng.getrandbits(32) for row in range(8)}
    places = [
        {"part": rng.randrange(lanes // output_lanes), "output": rng.randrange(output_lanes)}
        for _ in range(8)
    ]
    step = layout.places_of_beat or 8

    async def fill(ctx, word, **what):
        ctx.set(lane.word, word)
        ctx.set(lane.row_fill, what)
        await ctx.tick()
        ctx.set(lane.row_fill, {})
        ctx.set(lane.word, rng.getrandbits(width))
        await ctx.tick()

    async def script(ctx):
        for first in range(0, 8, step):
            own = places[first : first + step]
            if layout.places_of_beat:
                width_of_place = layout.place.width
                bits = sum(
                    layout.place.pack(**place) << i * width_of_place for i, place in enumerate(own)
                )
                await fill(ctx, bits, places=1)
            for index, row in enumerate(range(first, first + len(own))):
                for part in range(layout.row_scale_beats):
                    word = scales[row] >> width * part & (1 << width) - 1
                    await fill(ctx, word, scale=1 << part, row=row, place=index)
        for row, bits in scales.items():
            ctx.set(lane.drain, 1)
            ctx.set(lane.drain_row, row)
            await ctx.tick().repeat(2)
            for _ in range(2):  # held until the next read
                assert ctx.get(lane.drained.scale) == bits
                for field in layout.place:
                    assert ctx.get(lane.drained.place[field]) == places[row][field]
                ctx.set(lane.drain, 0)
                ctx.set(lane.drain_row, row ^ 1)
                await ctx.tick()

    hdl.simulate(lane, script)
