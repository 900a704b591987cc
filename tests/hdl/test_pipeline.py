# amaranth: UnusedElaboratable=no
"""Delays and registered sums: values and exact latencies."""

import random

import pytest
from amaranth import Module, Signal, Value, signed
from amaranth.lib import data

from lutra.hdl import pipeline
from lutra.hdl.pipeline import delay, registered_signed_sum, registered_sum, sum_latency


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("cycles", [0, 1, 2, 5])
def test_delay(hdl, cycles, control):
    m = Module()
    i, o = Signal(signed(7)), Signal(signed(7))
    m.d.comb += o.eq(delay(m, i, cycles, name="value", control=control).as_signed())
    rng = random.Random(cycles)
    values = [rng.randrange(-64, 64) for _ in range(30)]

    async def bench(ctx):
        for index, value in enumerate(values):
            ctx.set(i, value)
            if index >= cycles:
                assert ctx.get(o) == values[index - cycles]
            await ctx.tick()

    # A design without registers has no clock; this one always has.
    m.d.sync += Signal(name="clocked").eq(1)
    hdl.simulate(m, bench)


def test_delay_of_a_structure_is_its_bits():
    m = Module()
    view = Signal(data.StructLayout({"low": 3, "high": 5}))
    late = delay(m, view, 2, name="view")
    assert isinstance(late, Value)
    assert len(late) == 8
    assert delay(m, view, 0, name="now").shape() == Value.cast(view).shape()


@pytest.mark.parametrize(
    ("count", "latencies"),
    [
        (1, (0, 0, 0)),
        (2, (1, 1, 1)),
        (3, (2, 1, 1)),
        (4, (2, 1, 1)),
        (5, (3, 2, 1)),
        (8, (3, 2, 1)),
        (9, (4, 2, 2)),
        (16, (4, 2, 2)),
        (17, (5, 3, 2)),
        (64, (6, 3, 2)),
        (65, (7, 4, 3)),
    ],
)
def test_sum_latency(count, latencies):
    assert tuple(sum_latency(count, levels=levels) for levels in (1, 2, 3)) == latencies


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17])
def test_registered_sum(hdl, count, levels):
    """Exact for extremes of one sign, a new sum every cycle."""
    m = Module()
    terms = [Signal(signed(5), name=f"term_{index}") for index in range(count)]
    o = Signal(signed(16))
    m.d.comb += o.eq(registered_sum(m, terms, levels=levels, name="sum"))
    m.d.sync += Signal(name="clocked").eq(1)
    rng = random.Random(count)
    batches = [[-16] * count, [15] * count]
    batches += [[rng.randrange(-16, 16) for _ in range(count)] for _ in range(20)]
    latency = sum_latency(count, levels=levels)

    async def bench(ctx):
        for index in range(len(batches) + latency):
            for term, value in zip(terms, batches[min(index, len(batches) - 1)], strict=True):
                ctx.set(term, value)
            if index >= latency:
                assert ctx.get(o) == sum(batches[index - latency])
            await ctx.tick()

    hdl.simulate(m, bench)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17])
def test_registered_signed_sum(hdl, count, levels):
    """Exact whatever the signs, a new sum every cycle, as soon as without signs."""
    m = Module()
    terms = [Signal(signed(5), name=f"term_{index}") for index in range(count)]
    signs = [Signal(name=f"sign_{index}") for index in range(count)]
    o = Signal(signed(16))
    m.d.comb += o.eq(registered_signed_sum(m, signs, terms, levels=levels, name="sum"))
    m.d.sync += Signal(name="clocked").eq(1)
    rng = random.Random(count)
    batches = [([-16] * count, [sign] * count) for sign in (0, 1)]
    batches += [([-16, 15] * count, [0, 1] * count), ([-16, 15] * count, [1, 0] * count)]
    batches += [
        ([rng.randrange(-16, 16) for _ in range(count)], [rng.getrandbits(1) for _ in range(count)])
        for _ in range(20)
    ]
    latency = sum_latency(count, levels=levels)

    async def bench(ctx):
        for index in range(len(batches) + latency):
            values, negative = batches[min(index, len(batches) - 1)]
            for place in range(count):
                ctx.set(terms[place], values[place])
                ctx.set(signs[place], negative[place])
            if index >= latency:
                values, negative = (own[:count] for own in batches[index - latency])
                expected = sum(-v if s else v for v, s in zip(values, negative, strict=True))
                assert ctx.get(o) == expected
            await ctx.tick()

    hdl.simulate(m, bench)


def test_wrong_signs_are_found(hdl, monkeypatch):
    """Where an adder does not see that its operands' signs differ."""
    monkeypatch.setattr(
        pipeline, "_add_signed", lambda first, second: (first[0] + second[0], first[1])
    )
    with pytest.raises(AssertionError):
        test_registered_signed_sum(hdl, 2, 1)
