# amaranth: UnusedElaboratable=no
"""Tables from activations: what they hold, when they are ready, and who may fill them again."""

import itertools
import random

import numpy as np
import pytest
from amaranth import Module, Value

from lutra.formats import Numerics
from lutra.hdl.activation_store import ActivationStore
from lutra.hdl.lookup import Lookup
from lutra.hdl.table_builder import TableBuilder
from lutra.sim.handshake import Source

INT8 = Numerics(activation="int8", act_width=8)


class Bench:
    """Store, builder and look-up of one lane, connected as in an engine."""

    def __init__(self, hdl, parameters):
        self.hdl, self.parameters = hdl, parameters
        self.module = m = Module()
        m.submodules.store = self.store = store = ActivationStore(parameters=parameters)
        m.submodules.builder = self.builder = builder = TableBuilder(parameters=parameters)
        m.submodules.lookup = self.lookup = Lookup(parameters=parameters)
        m.d.comb += [
            builder.token_ready.eq(store.ready),
            builder.token.eq(store.token),
            store.release.eq(builder.release),
            store.read.eq(builder.read),
            store.read_beat.eq(builder.read_beat),
            builder.aligned.eq(store.aligned),
            builder.aligned_valid.eq(store.aligned_valid),
            self.lookup.write.eq(builder.write),
        ]

    def run(self, tokens, script):
        """Offer tokens while a script looks on."""
        store = self.store
        bench = self.hdl.EngineBench(self.parameters, engine=object())
        self.source = Source(payload for token in tokens for payload in bench.x(token[None]))

        async def cycle(ctx):
            ctx.set(store.i.valid, self.source.valid)
            ctx.set(Value.cast(store.i.payload), self.source.payload)
            self.source.observe(bool((await ctx.tick().sample(store.i.ready))[-1]))

        async def main(ctx):
            await script(ctx, lambda: cycle(ctx))

        self.hdl.simulate(self.module, main)

    async def filled(self, ctx, cycle, bank):
        """Wait for a bank; return the cycles it took."""
        ctx.set(self.builder.bank, bank)
        for count in range(3000):
            if ctx.get(self.builder.filled):
                return count
            await cycle()
        raise AssertionError(f"bank {bank} is never filled")

    async def pulse(self, ctx, cycle, signal, value):
        """Set a signal for one cycle."""
        ctx.set(signal, value)
        await cycle()
        ctx.set(signal, 0)

    async def check(self, ctx, cycle, bank, index, activations, rng):
        """Compare sums of one slice with direct ones; half of the keys are all of one sign."""
        width, lookup = self.parameters.layout.width, self.lookup
        slice_bits = len(lookup.slice) - 1
        address = bank << slice_bits | index
        padded = [*activations, *[0] * (width - len(activations))]
        ctx.set(self.builder.sum_slice, address)
        assert ctx.get(self.builder.sum) == sum(padded)
        keys = [0, (1 << width) - 1, *(rng.getrandbits(width) for _ in range(6))]
        keys += [1 << rng.randrange(width), (1 << width) - 1 ^ 1 << rng.randrange(width)]
        for key in keys:
            ctx.set(lookup.key, key)
            ctx.set(lookup.slice, address)
            for _ in range(lookup.latency):
                await cycle()
            signs = [1 if key >> bit & 1 else -1 for bit in range(width)]
            expected = sum(s * x for s, x in zip(signs, padded, strict=True))
            assert ctx.get(lookup.sum) == expected, f"slice {index}, key {key:#x}"


KINDS = [("full", mu) for mu in range(1, 7)] + [("half", mu) for mu in range(2, 7)]


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize(("table", "mu"), KINDS)
def test_sums_are_those_of_signed_activations(hdl, table, mu, width):
    """Widths that `mu` divides and that it does not; vectors that end within a slice and a tile."""
    parameters = hdl.parameters(
        ("int4",), INT8, table=table, mu=mu, width=width, group_sizes=(width,), max_columns=80
    )
    rng = random.Random(mu)
    tokens = [
        np.array([rng.randrange(-128, 128) for _ in range(columns)], dtype=np.int8)
        for columns in (width + 3, 5, 3 * width)
    ]
    tokens.append(np.full(width, -128, dtype=np.int8))
    bench = Bench(hdl, parameters)
    tile = parameters.layout.tile_columns

    async def script(ctx, cycle):
        bank = 0
        for token in tokens:
            for first in range(0, len(token), tile):
                await bench.filled(ctx, cycle, bank)
                assert ctx.get(bench.builder.filled_token.beats) == -(-len(token) // 4)
                part = token[first : first + tile].tolist()
                for index in range(-(-len(part) // width)):
                    activations = part[index * width : (index + 1) * width]
                    await bench.check(ctx, cycle, bank, index, activations, rng)
                await bench.pulse(ctx, cycle, bench.builder.taken, 1)
                assert not ctx.get(bench.builder.filled)
                await bench.pulse(ctx, cycle, bench.builder.used, 1 << bank)
                bank ^= 1

    bench.run(tokens, script)


@pytest.mark.parametrize("numerics", [INT8, Numerics(activation="float16", act_width=12)])
@pytest.mark.parametrize(
    ("table", "mu", "act_lanes"), list(itertools.product(["full", "half"], [2, 4], [2, 8]))
)
def test_cycles_of_a_slice(hdl, table, mu, act_lanes, numerics):
    """Reads, the store's latency, `mu` cycles, one for each entry, one to go on: not one more."""
    parameters = hdl.parameters(("int4",), numerics, table=table, mu=mu, act_lanes=act_lanes)
    bench = Bench(hdl, parameters)
    dtype = np.int8 if numerics == INT8 else np.float16
    token = np.ones(16, dtype=dtype)

    async def script(ctx, cycle):
        while not ctx.get(bench.store.ready):
            await cycle()
        reads = 8 // act_lanes
        slice_cycles = reads + bench.store.latency + mu + parameters.entries + 1
        # One cycle to begin the tile; two slices make it.
        assert await bench.filled(ctx, cycle, 0) == 1 + 2 * slice_cycles

    bench.run([token], script)


def test_banks_wait_until_they_are_used(hdl):
    """Two tiles are built ahead; a third only once the first one's last look-up has been made."""
    parameters = hdl.parameters(("int4",), INT8, tile_slices=1, group_sizes=(8,))
    bench = Bench(hdl, parameters)
    tokens = [np.full(8, value, dtype=np.int8) for value in (1, 2, 3, 4)]

    async def value(ctx, cycle, bank):
        ctx.set(bench.lookup.key, 0xFF)
        ctx.set(bench.lookup.slice, bank)
        for _ in range(bench.lookup.latency):
            await cycle()
        return ctx.get(bench.lookup.sum) // 8

    async def script(ctx, cycle):
        for _ in range(200):
            await cycle()
        assert await value(ctx, cycle, 0) == 1
        assert await value(ctx, cycle, 1) == 2
        ctx.set(bench.builder.bank, 0)
        assert ctx.get(bench.builder.filled)
        await bench.pulse(ctx, cycle, bench.builder.taken, 1)
        for _ in range(60):
            await cycle()
        assert not ctx.get(bench.builder.filled), "built again while still in use"
        assert await value(ctx, cycle, 0) == 1
        ctx.set(bench.builder.bank, 1)
        assert ctx.get(bench.builder.filled)
        assert await value(ctx, cycle, 1) == 2
        await bench.pulse(ctx, cycle, bench.builder.used, 1)
        await bench.filled(ctx, cycle, 0)
        assert await value(ctx, cycle, 0) == 3
        assert await value(ctx, cycle, 1) == 2

    bench.run(tokens, script)
