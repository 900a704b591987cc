# amaranth: UnusedElaboratable=no
"""Headers of a lane's records: batches in, one after another out, what they mean known ahead."""

import random

import pytest

from lutra.hdl.header_reader import HeaderReader

FORMATS = [
    ("int3",),
    ("bcq1", "int8", "bitmod3"),
    ("bcq3_asym", "int2_asym", "ternary"),
    ("bcq4_asym", "bcq1", "int4"),
]


class Bench:
    """Gives batches when they are wanted, and takes headers up when they are known."""

    def __init__(self, ctx, dut, rng):
        self.ctx, self.dut, self.rng = ctx, dut, rng

    async def begin(self):
        """Say that a layer begins."""
        self.ctx.set(self.dut.begin, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.begin, 0)

    async def give(self, words):
        """Give a batch; words come after random waits, with rubbish in between."""
        for index, word in enumerate(words):
            while self.rng.random() < 0.3:
                self.ctx.set(self.dut.word, self.rng.getrandbits(len(self.dut.word)))
                assert not self.ctx.get(self.dut.batch_ends)
                await self.ctx.tick()
            self.ctx.set(self.dut.word, word)
            self.ctx.set(self.dut.take, 1)
            assert self.ctx.get(self.dut.batch_ends) == (index == len(words) - 1)
            await self.ctx.tick()
            self.ctx.set(self.dut.take, 0)

    async def load(self):
        """Take up the upcoming header as soon as it is known; return the cycles until then."""
        waited = 0
        while not self.ctx.get(self.dut.settled):
            waited += 1
            await self.ctx.tick()
        last_bit = self.ctx.get(self.dut.upcoming_last_bit)
        self.ctx.set(self.dut.load, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.load, 0)
        assert self.ctx.get(self.dut.last_bit) == last_bit
        return waited


def _stream(hdl, parameters, seed):
    return hdl.LaneStream(
        parameters, blocks=9, slices=6, segment_slices=1, span_tiles=2, padding=0, seed=seed
    )


def _batch(stream, index):
    start = stream.batch_starts[index]
    return [word for word, _ in stream.words[start : start + stream.layout.batch_shape[0]]]


@pytest.mark.parametrize("formats", FORMATS, ids="+".join)
@pytest.mark.parametrize("width", [8, 16, 32, 128])
def test_every_header(hdl, formats, width):
    """In batches of one word and of several; headers of one length and of several."""
    parameters = hdl.parameters(formats, width=width, tile_slices=4, group_sizes=(), max_rows=48)
    layout = parameters.layout
    dut = HeaderReader(parameters=parameters)

    async def script(ctx):
        bench = Bench(ctx, dut, random.Random(width))
        for seed in range(3):
            stream = _stream(hdl, parameters, seed)
            await bench.begin()
            for index, numbers in enumerate(stream.batches):
                assert index == 0 or ctx.get(dut.batch_wanted)
                await bench.give(_batch(stream, index))
                assert not ctx.get(dut.batch_wanted)
                for number in numbers:
                    where = f"seed {seed}, record {number}"
                    header = stream.records[number][4]
                    item = layout.members[header["format"]]
                    assert await bench.load() <= 1, where
                    assert ctx.get(dut.last_bit) == item.code_width - 1, where
                    cycles = parameters.member_cycles[header["format"]]
                    assert ctx.get(dut.last_step) == cycles - 1, where
                    expected, position = 0, 0
                    for name, bits in layout.record_header(item).items():
                        expected |= (header[name] & (1 << bits) - 1) << position
                        position += bits
                    assert ctx.get(dut.raw) & (1 << position) - 1 == expected, where
                    assert not ctx.get(dut.refused), where
                    if number + 1 < len(stream.records):  # what is behind the last is rubbish
                        assert ctx.get(dut.batch_wanted) == (number == numbers[-1]), where

    hdl.simulate(dut, script)


def test_what_is_refused(hdl):
    """A number that is no format's, and in any of its scales the one that has no negative."""
    parameters = hdl.parameters(
        ("bcq3_asym", "int2_asym", "ternary"), width=32, tile_slices=4, group_sizes=()
    )
    layout = parameters.layout
    dut = HeaderReader(parameters=parameters)
    stream = _stream(hdl, parameters, 1)
    header = stream.records[0][4]
    count = layout.members[header["format"]].scale_count
    changes = {f"scale_{index}": -(1 << layout.scale_width) for index in range(count)}
    assert len(layout.members) < 1 << layout.format_width
    changes["format"] = len(layout.members)

    async def script(ctx):
        bench = Bench(ctx, dut, random.Random(1))
        for name, value in [(None, 0), *changes.items()]:
            words = stream.words if name is None else stream.words_with(0, name, value)
            start = stream.batch_starts[0]
            await bench.begin()
            await bench.give([word for word, _ in words[start : start + layout.batch_shape[0]]])
            await bench.load()
            assert ctx.get(dut.refused) == (name is not None), name

    hdl.simulate(dut, script)
