# amaranth: UnusedElaboratable=no
"""Finished rows read out of the lanes, in order, while the next layer is computed."""

import random

import pytest

from lutra.hdl.drain import Drain


class Lanes:
    """Memories of row sums that answer a read in the next cycle and keep the answer."""

    def __init__(self, dut, lanes):
        self.dut, self.lanes = dut, lanes
        self.row = 0

    @staticmethod
    def sum(row, lane):
        """Return what stands in a memory."""
        return (row * 37 + lane * 11) % 100 - 50

    @staticmethod
    def scale(row, lane):
        """Return a row scale, told from all others."""
        return row * 1000 + lane

    def answer(self, ctx):
        """Show the row that was read last."""
        for lane in range(self.lanes):
            ctx.set(self.dut.sums[lane], self.sum(self.row, lane))
            ctx.set(self.dut.row_scales[lane], self.scale(self.row, lane))


@pytest.mark.parametrize("chance", [0.0, 0.5])
@pytest.mark.parametrize(("lanes", "count"), [(4, 1), (4, 2), (4, 4), (5, 5), (6, 2)])
def test_layers_in_turn(hdl, lanes, count, chance):
    """Two layers wait at most; each bank is free again with its last row."""
    parameters = hdl.parameters(lanes=lanes, output_lanes=count, max_rows=13)
    dut = Drain(parameters=parameters)
    rng = random.Random(lanes)
    layers = [(rows, rng.randrange(-40, 30), rng.randrange(2)) for rows in (1, 13, lanes, 2, 7, 1)]
    memory = Lanes(dut, lanes)
    bank_bit = len(dut.read_row) - 1

    def expected():
        for number, (rows, exponent, nonfinite) in enumerate(layers):
            bank = number % 2 << bank_bit
            for first in range(0, rows, count):
                places = [
                    (bank | row // lanes, row % lanes)
                    for row in range(first, min(first + count, rows))
                ]
                yield places, exponent, nonfinite, first + count >= rows

    async def bench(ctx):
        wanted = list(expected())
        given = 0
        taken = 0
        for _ in range(400):
            free = ctx.get(dut.free)
            offers = given < len(layers) and free >> given % 2 & 1 and rng.random() < 0.3
            ctx.set(dut.done, offers)
            if offers:
                rows, exponent, nonfinite = layers[given]
                ctx.set(dut.rows, rows)
                ctx.set(dut.exponent, exponent)
                ctx.set(dut.nonfinite, nonfinite)
                ctx.set(dut.bank, given % 2)
                given += 1
            else:  # these matter in that one cycle only
                ctx.set(dut.rows, rng.randrange(14))
                ctx.set(dut.exponent, 0)
            advance = rng.random() >= chance
            ctx.set(dut.advance, advance)
            memory.answer(ctx)
            if ctx.get(dut.o_valid):
                places, exponent, nonfinite, last = wanted[taken]
                for index in range(count):
                    present = index < len(places)
                    assert ctx.get(dut.o.present[index]) == present
                    if present:
                        assert ctx.get(dut.o.sums[index]) == memory.sum(*places[index])
                        assert ctx.get(dut.o.row_scales[index]) == memory.scale(*places[index])
                assert ctx.get(dut.o.exponent) == exponent
                assert ctx.get(dut.o.nonfinite) == nonfinite
                assert ctx.get(dut.o.last) == last
                taken += advance
            reads, row = ctx.get(dut.read), ctx.get(dut.read_row)
            await ctx.tick()
            if reads:
                memory.row = row
        assert taken == len(wanted)
        assert ctx.get(dut.free) == 0b11

    hdl.simulate(dut, bench)


def test_no_gap_within_a_layer(hdl):
    """A beat every cycle from two cycles after `done` on."""
    parameters = hdl.parameters(lanes=4, output_lanes=2, max_rows=16)
    dut = Drain(parameters=parameters)
    seen = []

    async def bench(ctx):
        ctx.set(dut.advance, 1)
        ctx.set(dut.rows, 15)
        ctx.set(dut.done, 1)
        for _ in range(12):
            seen.append(ctx.get(dut.o_valid))
            await ctx.tick()
            ctx.set(dut.done, 0)

    hdl.simulate(dut, bench)
    assert seen == [0, 0, *[1] * 8, 0, 0]
