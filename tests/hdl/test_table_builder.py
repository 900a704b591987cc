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
from lutra.hdl.token_stores import TokenStores
from lutra.sim.handshake import Source

INT8 = Numerics(activation="int8", act_width=8)


class Bench:
    """Stores, builder and look-ups of one lane, connected as in an engine."""

    def __init__(self, hdl, parameters):
        self.hdl, self.parameters = hdl, parameters
        self.module = m = Module()
        m.submodules.stores = self.stores = stores = TokenStores(parameters=parameters)
        m.submodules.builder = self.builder = builder = TableBuilder(parameters=parameters)
        m.d.comb += [
            builder.token_ready.eq(stores.ready),
            builder.tokens.eq(stores.tokens),
            stores.release.eq(builder.release),
            stores.read.eq(builder.read),
            stores.read_beat.eq(builder.read_beat),
            builder.aligned.eq(stores.aligned),
            builder.aligned_valid.eq(stores.aligned_valid),
        ]
        self.lookups = [Lookup(parameters=parameters) for _ in range(parameters.tokens)]
        for token, lookup in enumerate(self.lookups):
            m.submodules[f"lookup_{token}"] = lookup
            m.d.comb += [
                lookup.enable.eq(builder.write.enable),
                lookup.write_slice.eq(builder.write.slice),
                lookup.entry.eq(builder.write.index),
                lookup.entries.eq(builder.write.values[token]),
            ]
        self.sums = {}

    def run(self, tokens, script):
        """Offer tokens while a script looks on."""
        i = self.stores.i
        bench = self.hdl.EngineBench(self.parameters, engine=object())
        beats = [
            int.from_bytes(payload.tobytes(), "little")
            for token in tokens
            for payload in self._payloads(bench, token)
        ]
        self.source = Source(beats)

        async def cycle(ctx):
            ctx.set(i.valid, self.source.valid)
            ctx.set(Value.cast(i.payload), self.source.payload)
            write = self.builder.write
            if "sum" in write.shape().members and ctx.get(write.enable_sum):
                self.sums[ctx.get(write.slice)] = [ctx.get(total) for total in write.sum]
            self.source.observe(bool((await ctx.tick().sample(i.ready))[-1]))

        async def main(ctx):
            await script(ctx, lambda: cycle(ctx))

        self.hdl.simulate(self.module, main)

    @staticmethod
    def _payloads(bench, token):
        """Beats of one token, without those that fill a pass up."""
        interface = bench.interface
        count = -(-len(token) // interface.act_lanes)
        return interface.activations(token[None])[:count]

    def is_filled(self, ctx, bank):
        """Return whether a bank holds a tile."""
        return ctx.get(self.builder.filled) >> bank & 1

    async def filled(self, ctx, cycle, bank):
        """Wait for a bank; return the cycles it took."""
        for count in range(3000):
            if self.is_filled(ctx, bank):
                return count
            await cycle()
        raise AssertionError(f"bank {bank} is never filled")

    async def finish(self, ctx, cycle, bank):
        """Give a bank back."""
        ctx.set(self.builder.finished, 1 << bank)
        await cycle()
        ctx.set(self.builder.finished, 0)
        assert not self.is_filled(ctx, bank)

    async def check(self, ctx, cycle, bank, index, vectors, rng):
        """Compare sums of one slice with direct ones; half of the keys are all of one sign."""
        width = self.parameters.layout.width
        address = bank << self.parameters.slice_address_width - 1 | index
        padded = [[*vector, *[0] * (width - len(vector))] for vector in vectors]
        if self.parameters.core.is_half:
            assert self.sums[address] == [sum(vector) for vector in padded]
        keys = [0, (1 << width) - 1, *(rng.getrandbits(width) for _ in range(6))]
        keys += [1 << rng.randrange(width), (1 << width) - 1 ^ 1 << rng.randrange(width)]
        for key in keys:
            for lookup in self.lookups:
                ctx.set(lookup.key, key)
                ctx.set(lookup.slice, address)
            for _ in range(self.lookups[0].latency):
                await cycle()
            unset = -1 if self.parameters.core.is_half else 0
            signs = [1 if key >> bit & 1 else unset for bit in range(width)]
            for lookup, vector in zip(self.lookups, padded, strict=True):
                expected = sum(s * x for s, x in zip(signs, vector, strict=True))
                assert ctx.get(lookup.sum) == expected, f"slice {index}, key {key:#x}"


KINDS = [("full", mu) for mu in range(1, 7)] + [("half", mu) for mu in range(2, 7)]
KINDS += [("block", 3), ("block", 9)]


def _vectors(rng, columns, count):
    return [
        np.array([rng.randrange(-128, 128) for _ in range(columns)], dtype=np.int8)
        for _ in range(count)
    ]


@pytest.mark.parametrize(("width", "tokens"), [(8, 1), (16, 1), (8, 2), (16, 4)])
@pytest.mark.parametrize(("table", "mu"), KINDS)
def test_sums_are_those_of_signed_activations(hdl, table, mu, width, tokens):
    """Widths that `mu` divides and that it does not; vectors that end within a slice and a tile."""
    parameters = hdl.parameters(
        ("int4",),
        INT8,
        table=table,
        mu=mu,
        width=width,
        group_sizes=(width,),
        max_columns=80,
        tokens=tokens,
    )
    rng = random.Random(mu)
    passes = [_vectors(rng, columns, tokens) for columns in (width + 3, 5, 3 * width)]
    passes.append([np.full(width, -128, dtype=np.int8)] * tokens)
    bench = Bench(hdl, parameters)
    tile = parameters.layout.tile_columns

    async def script(ctx, cycle):
        bank = 0
        for vectors in passes:
            columns = len(vectors[0])
            for first in range(0, columns, tile):
                await bench.filled(ctx, cycle, bank)
                for token in range(tokens):
                    kept = bench.builder.kept_tokens[bank][token]
                    assert ctx.get(kept.beats) == -(-columns // 4)
                last = min(first + tile, columns)
                for index, start in enumerate(range(first, last, width)):
                    parts = [v[start : min(start + width, last)].tolist() for v in vectors]
                    await bench.check(ctx, cycle, bank, index, parts, rng)
                await bench.finish(ctx, cycle, bank)
                bank ^= 1
        for _ in range(5):
            assert not ctx.get(bench.builder.occupied)
            await cycle()

    bench.run([vector for vectors in passes for vector in vectors], script)


@pytest.mark.parametrize("numerics", [INT8, Numerics(activation="float16", act_width=12)])
@pytest.mark.parametrize(
    ("table", "mu", "act_lanes"),
    list(itertools.product(["full", "half", "block"], [2, 4], [2, 8])),
)
def test_cycles_of_a_slice(hdl, table, mu, act_lanes, numerics):
    """Reads, the store's latency, one for each entry, one to go on; `mu` more for half tables."""
    parameters = hdl.parameters(("int4",), numerics, table=table, mu=mu, act_lanes=act_lanes)
    bench = Bench(hdl, parameters)
    dtype = np.int8 if numerics == INT8 else np.float16
    token = np.ones(16, dtype=dtype)

    async def script(ctx, cycle):
        while not ctx.get(bench.stores.ready):
            await cycle()
        reads = 8 // act_lanes
        latency = ActivationStore(parameters=parameters).latency
        begun = mu if table == "half" else 0
        slice_cycles = reads + latency + begun + parameters.core.entries + 1
        # One cycle to begin the tile; two slices make it.
        assert await bench.filled(ctx, cycle, 0) == 1 + 2 * slice_cycles

    bench.run([token], script)


def test_banks_wait_until_they_are_used(hdl):
    """Two tiles are built ahead; a third only once the first one's last look-up has been made."""
    parameters = hdl.parameters(("int4",), INT8, tile_slices=1, group_sizes=(8,))
    bench = Bench(hdl, parameters)
    (lookup,) = bench.lookups
    tokens = [np.full(8, value, dtype=np.int8) for value in (1, 2, 3, 4)]

    async def value(ctx, cycle, bank):
        ctx.set(lookup.key, 0xFF)
        ctx.set(lookup.slice, bank)
        for _ in range(lookup.latency):
            await cycle()
        return ctx.get(lookup.sum) // 8

    async def script(ctx, cycle):
        for _ in range(200):
            await cycle()
        assert ctx.get(bench.builder.filled) == 0b11
        assert ctx.get(bench.builder.occupied)
        assert await value(ctx, cycle, 0) == 1
        assert await value(ctx, cycle, 1) == 2
        await bench.finish(ctx, cycle, 0)
        assert ctx.get(bench.builder.filled) == 0b10
        await bench.filled(ctx, cycle, 0)
        assert await value(ctx, cycle, 0) == 3
        assert await value(ctx, cycle, 1) == 2
        for _ in range(60):
            await cycle()
        assert await value(ctx, cycle, 1) == 2, "built again while still in use"
        await bench.finish(ctx, cycle, 1)
        await bench.filled(ctx, cycle, 1)
        assert await value(ctx, cycle, 0) == 3
        assert await value(ctx, cycle, 1) == 4

    bench.run(tokens, script)


def test_tiles_may_be_finished_together(hdl):
    """Both banks are given back in the same cycle, and filled again in order."""
    parameters = hdl.parameters(("int4_asym",), INT8, tile_slices=1, group_sizes=(8,))
    bench = Bench(hdl, parameters)
    tokens = [np.full(8, value, dtype=np.int8) for value in (1, 2, 3, 4)]

    async def script(ctx, cycle):
        for _ in range(200):
            await cycle()
        assert bench.sums == {0: [8], 1: [16]}
        ctx.set(bench.builder.finished, 0b11)
        await cycle()
        ctx.set(bench.builder.finished, 0)
        assert ctx.get(bench.builder.filled) == 0
        first = await bench.filled(ctx, cycle, 0)
        assert ctx.get(bench.builder.filled) == 0b01
        assert first > 0
        await bench.filled(ctx, cycle, 1)
        assert bench.sums == {0: [24], 1: [32]}

    bench.run(tokens, script)
