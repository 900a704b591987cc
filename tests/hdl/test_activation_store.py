# amaranth: UnusedElaboratable=no
"""The store: two tokens, aligned reads with zeros behind the end, and vectors that are too long."""

import random

import numpy as np
import pytest
from amaranth import Value

from lutra.formats import Numerics
from lutra.hdl.activation_store import ActivationStore, activation_layout, token_latency
from lutra.sim import adversarial_tokens, align, nonfinite_tokens
from lutra.sim.handshake import Source, StallPattern


class Bench:
    """A store whose input follows a source while its reader does as it likes."""

    def __init__(self, ctx, dut, payloads, chance=0.0, seed=0):
        self.ctx, self.dut = ctx, dut
        self.source = Source(payloads, StallPattern(chance, seed))

    async def cycle(self):
        """Clock once, offering what is next."""
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.i.valid, self.source.valid)
        ctx.set(Value.cast(dut.i.payload), self.source.payload)
        ready = (await ctx.tick().sample(dut.i.ready))[-1]
        self.source.observe(bool(ready))

    async def until_ready(self):
        """Wait for a token."""
        for _ in range(2000):
            if self.ctx.get(self.dut.ready):
                return
            await self.cycle()
        raise AssertionError("no token")

    async def read(self, beats):
        """Read beats back to back; check the latency of each."""
        ctx, dut = self.ctx, self.dut
        got = []
        for index in range(beats + dut.latency):
            ctx.set(dut.read, index < beats)
            ctx.set(dut.read_beat, min(index, beats - 1))
            assert ctx.get(dut.aligned_valid) == (index >= dut.latency)
            if index >= dut.latency:
                got += [ctx.get(element) for element in dut.aligned]
            await self.cycle()
        ctx.set(dut.read, 0)
        return got

    async def release(self):
        """Give the oldest token back."""
        self.ctx.set(self.dut.release, 1)
        await self.cycle()
        self.ctx.set(self.dut.release, 0)


def _payloads(hdl, parameters, token):
    return hdl.EngineBench(parameters, engine=object()).x(token[None])


NUMERICS = [
    Numerics(activation="int8", act_width=8),
    Numerics(activation="float16", act_width=10),
    Numerics(activation="float16", act_width="exact"),
    Numerics(activation="bfloat16", act_width=24),
    Numerics(activation="float32", act_width=16),
]


def _name(numerics):
    return f"{numerics.activation}-{numerics.act_width}"


@pytest.mark.parametrize("chance", [0.0, 0.6])
@pytest.mark.parametrize("act_lanes", [1, 4, 8])
@pytest.mark.parametrize("numerics", NUMERICS, ids=_name)
def test_tokens_come_back_aligned(hdl, numerics, act_lanes, chance):
    """Of every length, the next one arriving while one is read."""
    parameters = hdl.parameters(("int4",), numerics, act_lanes=act_lanes, max_columns=19)
    dut = ActivationStore(parameters=parameters)
    rng = random.Random(act_lanes)
    tokens = []
    for columns in (1, 19, 8, 7, 17, 2):
        candidates = adversarial_tokens(numerics, columns, seed=columns)
        candidates |= nonfinite_tokens(numerics, columns, seed=columns)
        tokens += [candidates[name] for name in rng.sample(sorted(candidates), 2)]

    async def bench(ctx):
        payloads = [p for token in tokens for p in _payloads(hdl, parameters, token)]
        io = Bench(ctx, dut, payloads, chance, seed=1)
        for token in tokens:
            await io.until_ready()
            golden = align(token[None], numerics, nonfinite="nan")
            beats = -(-len(token) // act_lanes)
            assert ctx.get(dut.token.beats) == beats
            last = token[(beats - 1) * act_lanes :]
            used = np.flatnonzero(last != 0)  # NaN is not 0, and -0 is
            assert ctx.get(dut.token.used) == (used[-1] + 1 if len(used) else 0)
            assert ctx.get(dut.token.nonfinite) == golden.nonfinite[0]
            if not golden.nonfinite[0]:
                assert ctx.get(dut.token.exponent) == golden.exponent[0]
                got = await io.read(parameters.max_act_beats + parameters.beats_of_slice - 1)
                padding = [0] * (len(got) - len(token))
                assert got == [*golden.X[0].tolist(), *padding]
            await io.release()
        assert io.source.finished
        assert not ctx.get(dut.too_long)
        assert not ctx.get(dut.ready)
        assert not ctx.get(dut.occupied)

    hdl.simulate(dut, bench)


def test_two_tokens_fit_and_no_third(hdl):
    parameters = hdl.parameters(("int4",), NUMERICS[0], max_columns=16)
    dut = ActivationStore(parameters=parameters)
    token = np.arange(16, dtype=np.int8)

    async def bench(ctx):
        io = Bench(ctx, dut, _payloads(hdl, parameters, token) * 4)
        for _ in range(30):
            await io.cycle()
        assert io.source.sent == 8  # two of four beats each
        assert not ctx.get(dut.i.ready)
        await io.release()
        for _ in range(30):
            await io.cycle()
        assert io.source.sent == 12

    hdl.simulate(dut, bench)


@pytest.mark.parametrize(("numerics", "latency"), [(NUMERICS[0], 2), (NUMERICS[1], 7)])
def test_token_is_known_some_cycles_after_its_last_beat(hdl, numerics, latency):
    parameters = hdl.parameters(("int4",), numerics, max_columns=16)
    assert token_latency(parameters) == latency
    dut = ActivationStore(parameters=parameters)
    token = np.linspace(-1, 1, 16).astype(numerics.activation)

    async def bench(ctx):
        io = Bench(ctx, dut, _payloads(hdl, parameters, token))
        assert not ctx.get(dut.occupied)
        for _ in range(4):
            await io.cycle()
            assert ctx.get(dut.occupied)
        assert io.source.finished
        for _ in range(latency - 1):
            assert not ctx.get(dut.ready)
            await io.cycle()
        assert ctx.get(dut.ready)

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("columns", [16, 17, 20, 40])
def test_too_long(hdl, columns):
    """One beat more than the largest layer needs; it sticks."""
    parameters = hdl.parameters(("int4",), NUMERICS[0], max_columns=14)
    dut = ActivationStore(parameters=parameters)
    token = np.ones(columns, dtype=np.int8)

    async def bench(ctx):
        payloads = _payloads(hdl, parameters, token)
        io = Bench(ctx, dut, payloads)
        for _ in range(4):
            await io.cycle()
            assert not ctx.get(dut.too_long)
        for _ in range(3):
            await io.cycle()
            assert ctx.get(dut.too_long) == (columns > 16)
        for _ in range(20):
            await io.cycle()
            assert ctx.get(dut.too_long) == (columns > 16)

    hdl.simulate(dut, bench)


def test_discard(hdl):
    """Everything is accepted, full or not, and nothing is kept."""
    parameters = hdl.parameters(("int4",), NUMERICS[0], max_columns=16)
    dut = ActivationStore(parameters=parameters)
    token = np.ones(16, dtype=np.int8)

    async def bench(ctx):
        io = Bench(ctx, dut, _payloads(hdl, parameters, token) * 10)
        ctx.set(dut.discard, 1)
        for _ in range(20):
            await io.cycle()
            assert not ctx.get(dut.ready)
        assert io.source.sent == 20
        ctx.set(dut.discard, 0)
        for _ in range(10):
            await io.cycle()
        assert io.source.sent == 28
        ctx.set(dut.discard, 1)
        for _ in range(12):
            await io.cycle()
        assert io.source.finished
        assert not ctx.get(dut.too_long)

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("act_lanes", [1, 8])
def test_beat_layout(hdl, act_lanes):
    parameters = hdl.parameters(("int4",), NUMERICS[4], act_lanes=act_lanes)
    layout = activation_layout(parameters)
    assert layout["elements"].offset == 0
    assert layout["last"].offset == 32 * act_lanes == layout.size - 1
