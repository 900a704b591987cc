# amaranth: UnusedElaboratable=no
"""Vectors dealt to one store each, in turn, and read side by side."""

import random

import numpy as np
import pytest
from amaranth import Value

from lutra.formats import Numerics
from lutra.hdl.activation_store import ActivationStore
from lutra.hdl.token_stores import TokenStores
from lutra.sim import adversarial_tokens, align
from lutra.sim.handshake import Source, StallPattern

INT8 = Numerics(activation="int8", act_width=8)
FLOAT = Numerics(activation="float16", act_width=12)


class Bench:
    """Stores whose input follows a source."""

    def __init__(self, hdl, parameters, ctx, dut, vectors, chance=0.0, seed=0):
        self.ctx, self.dut = ctx, dut
        interface = hdl.EngineBench(parameters, engine=object()).interface
        raw = []
        for vector in vectors:
            count = -(-len(vector) // interface.act_lanes)
            raw += list(interface.activations(vector[None])[:count])
        beats = [int.from_bytes(beat.tobytes(), "little") for beat in raw]
        self.source = Source(beats, StallPattern(chance, seed))

    async def cycle(self):
        """Clock once, offering what is next."""
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.i.valid, self.source.valid)
        ctx.set(Value.cast(dut.i.payload), self.source.payload)
        self.source.observe(bool((await ctx.tick().sample(dut.i.ready))[-1]))

    async def until_ready(self):
        """Wait for a vector in every store."""
        for _ in range(2000):
            if self.ctx.get(self.dut.ready):
                return
            await self.cycle()
        raise AssertionError("no vectors")

    async def read(self, beats, latency):
        """Read beats back to back; return each store's elements."""
        ctx, dut = self.ctx, self.dut
        got = [[] for _ in dut.tokens]
        for index in range(beats + latency):
            ctx.set(dut.read, index < beats)
            ctx.set(dut.read_beat, min(index, beats - 1))
            assert ctx.get(dut.aligned_valid) == (index >= latency)
            if index >= latency:
                for token, elements in enumerate(got):
                    elements += [ctx.get(element) for element in dut.aligned[token]]
            await self.cycle()
        ctx.set(dut.read, 0)
        return got

    async def release(self):
        """Give the oldest vectors back."""
        self.ctx.set(self.dut.release, 1)
        await self.cycle()
        self.ctx.set(self.dut.release, 0)


@pytest.mark.parametrize("chance", [0.0, 0.6])
@pytest.mark.parametrize("numerics", [INT8, FLOAT], ids=["int8", "float16"])
@pytest.mark.parametrize("tokens", [1, 2, 4, 8])
def test_vectors_are_read_side_by_side(hdl, tokens, numerics, chance):
    """Each with its own exponent; the next pass arrives while one is read."""
    parameters = hdl.parameters(("int4",), numerics, tokens=tokens, max_columns=19)
    dut = TokenStores(parameters=parameters)
    latency = ActivationStore(parameters=parameters).latency
    rng = random.Random(tokens)
    passes = []
    for columns in (1, 19, 8, 7):
        known = adversarial_tokens(numerics, columns, seed=columns)
        passes.append([known[rng.choice(sorted(known))] for _ in range(tokens)])

    async def bench(ctx):
        vectors = [vector for vectors in passes for vector in vectors]
        io = Bench(hdl, parameters, ctx, dut, vectors, chance, seed=1)
        for vectors in passes:
            await io.until_ready()
            golden = align(np.stack(vectors), numerics, nonfinite="nan")
            beats = -(-len(vectors[0]) // 4)
            for token in range(tokens):
                assert ctx.get(dut.tokens[token].beats) == beats
                assert ctx.get(dut.tokens[token].nonfinite) == golden.nonfinite[token]
                assert ctx.get(dut.tokens[token].exponent) == golden.exponent[token]
            got = await io.read(beats, latency)
            for token, elements in enumerate(got):
                padding = [0] * (len(elements) - len(vectors[token]))
                assert elements == [*golden.X[token].tolist(), *padding]
            await io.release()
        assert io.source.finished
        for _ in range(3):
            await io.cycle()
            assert not ctx.get(dut.ready)
            assert not ctx.get(dut.occupied)
            assert not ctx.get(dut.too_long)

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_two_passes_fit_and_no_third(hdl, tokens):
    parameters = hdl.parameters(("int4",), INT8, tokens=tokens, max_columns=16)
    dut = TokenStores(parameters=parameters)
    vectors = [np.arange(16, dtype=np.int8)] * (4 * tokens)

    async def bench(ctx):
        io = Bench(hdl, parameters, ctx, dut, vectors)
        for _ in range(20 * tokens):
            await io.cycle()
        assert io.source.sent == 2 * tokens * 4
        await io.release()
        for _ in range(20 * tokens):
            await io.cycle()
        assert io.source.sent == 3 * tokens * 4

    hdl.simulate(dut, bench)


def test_ready_when_each_has_a_vector(hdl):
    """A pass that is not complete is work under way, but not ready."""
    parameters = hdl.parameters(("int4",), INT8, tokens=4, max_columns=16)
    dut = TokenStores(parameters=parameters)
    vectors = [np.ones(8, dtype=np.int8)] * 4

    async def bench(ctx):
        io = Bench(hdl, parameters, ctx, dut, vectors)
        assert not ctx.get(dut.occupied)
        for _ in range(8):
            assert not ctx.get(dut.ready)
            await io.cycle()
            assert ctx.get(dut.occupied)
        await io.cycle()
        assert ctx.get(dut.ready)

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("which", range(4))
def test_any_vector_may_be_too_long(hdl, which):
    parameters = hdl.parameters(("int4",), INT8, tokens=4, max_columns=14)
    dut = TokenStores(parameters=parameters)
    vectors = [np.ones(17 if n == which else 14, dtype=np.int8) for n in range(4)]

    async def bench(ctx):
        io = Bench(hdl, parameters, ctx, dut, vectors)
        for _ in range(4 * which + 4):
            await io.cycle()
            assert not ctx.get(dut.too_long)
        for _ in range(20):
            await io.cycle()
            assert ctx.get(dut.too_long)

    hdl.simulate(dut, bench)


def test_discard(hdl):
    """Everything is accepted, full or not, and nothing is kept, nor is it anyone's turn."""
    parameters = hdl.parameters(("int4",), INT8, tokens=2, max_columns=16)
    dut = TokenStores(parameters=parameters)
    vectors = [np.full(16, value, dtype=np.int8) for value in range(1, 10)]

    async def bench(ctx):
        io = Bench(hdl, parameters, ctx, dut, vectors)
        ctx.set(dut.discard, 1)
        for _ in range(3 * 4):
            await io.cycle()
            assert not ctx.get(dut.ready)
            assert not ctx.get(dut.occupied)
        ctx.set(dut.discard, 0)
        await io.until_ready()
        got = await io.read(4, ActivationStore(parameters=parameters).latency)
        assert got == [[4] * 16, [5] * 16]

    hdl.simulate(dut, bench)


def test_discard_while_full(hdl):
    """A beat is accepted in each cycle, and what was kept before stays as it was."""
    parameters = hdl.parameters(("int4",), INT8, tokens=2, max_columns=16)
    dut = TokenStores(parameters=parameters)
    latency = ActivationStore(parameters=parameters).latency
    vectors = [np.full(16, value, dtype=np.int8) for value in range(1, 10)]

    async def bench(ctx):
        io = Bench(hdl, parameters, ctx, dut, vectors)
        for _ in range(20):
            await io.cycle()
        assert io.source.sent == 2 * 2 * 4
        ctx.set(dut.discard, 1)
        for _ in range(3 * 4):
            sent = io.source.sent
            await io.cycle()
            assert io.source.sent == sent + 1
        ctx.set(dut.discard, 0)
        for first, second in [(1, 2), (3, 4), (8, 9)]:
            await io.until_ready()
            assert await io.read(4, latency) == [[first] * 16, [second] * 16]
            await io.release()
        assert io.source.finished
        assert not ctx.get(dut.occupied)

    hdl.simulate(dut, bench)
