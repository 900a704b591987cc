# amaranth: UnusedElaboratable=no
"""Finished rows read out of the lanes, in order, wherever they are, one token after another."""

import itertools
import random

import pytest

from lutra.hdl.drain import Drain


class Lanes:
    """Memories of row sums that answer a read in the next cycle and keep the answer.

    Rows that leave together are in lanes that differ modulo ``output_lanes``, otherwise anywhere.
    """

    def __init__(self, parameters, dut, seed):
        self.layout, self.dut = parameters.layout, dut
        self.tokens, self.seed = parameters.tokens, seed
        self.address = self.newest = 0  # shown, and to be shown with the next read

    def places(self, address):
        """Return the row of its block that each lane has."""
        rng = random.Random(self.seed * 1000 + address)
        lanes, count = self.layout.lanes, self.layout.output_lanes
        rows = [0] * lanes
        free = [rng.sample(range(own, lanes, count), lanes // count) for own in range(count)]
        for part in range(lanes // count):
            for output, own in enumerate(rng.sample(range(count), count)):
                rows[free[own].pop()] = part * count + output
        return rows

    @staticmethod
    def sum(address, row, token):
        """Return what stands in a memory."""
        return (address * 37 + row * 11 + token * 29) % 100 - 50

    @staticmethod
    def scale(address, row):
        """Return a row scale, told from all others."""
        return address * 1000 + row

    def answer(self, ctx):
        """Show the rows that were read last but one."""
        for lane, row in enumerate(self.places(self.address)):
            sums = [self.sum(self.address, row, token) for token in range(self.tokens)]
            ctx.set(
                self.dut.drained[lane],
                {
                    "sums": sums,
                    "scale": self.scale(self.address, row),
                    "place": {
                        "part": row // self.layout.output_lanes,
                        "output": row % self.layout.output_lanes,
                    },
                },
            )


class Layers:
    """Layers that wait to be drained, and every beat that they must give."""

    def __init__(self, parameters, shapes, seed):
        self.lanes, self.count = parameters.layout.lanes, parameters.layout.output_lanes
        self.tokens = parameters.tokens
        self.bank_bit = parameters.row_address_width - 1
        rng = random.Random(seed)
        self.items = [
            {
                "rows": rows,
                "exponents": [rng.randrange(-40, 30) for _ in range(self.tokens)],
                "nonfinites": rng.getrandbits(self.tokens),
                "bank": number % 2,
            }
            for number, rows in enumerate(shapes)
        ]

    def beats(self):
        """Return rows by address and place, token, and what goes with them, in order."""
        for number, layer in enumerate(self.items):
            for token, first in itertools.product(
                range(self.tokens), range(0, layer["rows"], self.count)
            ):
                rows = range(first, min(first + self.count, layer["rows"]))
                bank = layer["bank"] << self.bank_bit
                last = first + self.count >= layer["rows"]
                yield {
                    "rows": [(bank | row // self.lanes, row % self.lanes) for row in rows],
                    "token": token,
                    "exponent": layer["exponents"][token],
                    "nonfinite": layer["nonfinites"] >> token & 1,
                    "last": last,
                    "finishes": number if last and token == self.tokens - 1 else None,
                }


def _check_beat(ctx, dut, memory, beat):
    for index in range(memory.layout.output_lanes):
        present = index < len(beat["rows"])
        assert ctx.get(dut.o.present[index]) == present
        if present:
            address, row = beat["rows"][index]
            assert ctx.get(dut.o.sums[index]) == memory.sum(address, row, beat["token"])
            assert ctx.get(dut.o.row_scales[index]) == memory.scale(address, row)
    for name in ("exponent", "nonfinite", "last"):
        assert ctx.get(dut.o[name]) == beat[name]


@pytest.mark.parametrize("chance", [0.0, 0.5])
@pytest.mark.parametrize("tokens", [1, 2, 4])
@pytest.mark.parametrize(("lanes", "count"), [(4, 1), (4, 2), (4, 4), (5, 5), (6, 2), (6, 1)])
def test_layers_in_turn(hdl, lanes, count, tokens, chance):
    """Two layers wait at most; each bank is free again once its last token's last row shows."""
    parameters = hdl.parameters(lanes=lanes, output_lanes=count, max_rows=13, tokens=tokens)
    dut = Drain(parameters=parameters)
    rng = random.Random(lanes)
    layers = Layers(parameters, (1, 13, lanes, 2, 7, 1), seed=tokens)
    memory = Lanes(parameters, dut, seed=lanes)
    wanted = list(layers.beats())

    async def bench(ctx):
        given = taken = finished = spare = 0
        while spare < 8:
            spare += taken == len(wanted)
            if ctx.get(dut.o_valid) and wanted[taken]["finishes"] is not None:
                finished = wanted[taken]["finishes"] + 1
            free = ctx.get(dut.free)
            kept = {number % 2 for number in range(finished, given)}
            assert free == sum(1 << bank for bank in range(2) if bank not in kept)
            offers = given < len(layers.items) and given % 2 not in kept and rng.random() < 0.3
            ctx.set(dut.done, offers)
            # What comes with it matters in that one cycle only.
            nothing = {"rows": rng.randrange(14), "exponents": [0] * tokens}
            for name, value in (layers.items[given] if offers else nothing).items():
                ctx.set(getattr(dut, name), value)
            given += offers
            advance = rng.random() >= chance
            ctx.set(dut.advance, advance)
            memory.answer(ctx)
            if ctx.get(dut.o_valid):
                _check_beat(ctx, dut, memory, wanted[taken])
                taken += advance
            reads, address = ctx.get(dut.read), ctx.get(dut.read_row)
            await ctx.tick()
            if reads:
                memory.address, memory.newest = memory.newest, address
        assert taken == len(wanted)
        assert ctx.get(dut.free) == 0b11

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(
    ("tokens", "cycles"), [(1, [*[1] * 8, 0, 0]), (2, [*[1] * 8, 0, 0, *[1] * 8, 0])]
)
def test_no_gap_within_a_token(hdl, tokens, cycles):
    """A beat every cycle from four cycles after `done` on; two without between two tokens."""
    parameters = hdl.parameters(lanes=4, output_lanes=2, max_rows=16, tokens=tokens)
    dut = Drain(parameters=parameters)
    seen = []

    async def bench(ctx):
        ctx.set(dut.advance, 1)
        ctx.set(dut.rows, 15)
        ctx.set(dut.done, 1)
        for _ in range(4 + len(cycles)):
            seen.append(ctx.get(dut.o_valid))
            await ctx.tick()
            ctx.set(dut.done, 0)

    hdl.simulate(dut, bench)
    assert seen == [0, 0, 0, 0, *cycles]
