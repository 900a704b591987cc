# amaranth: UnusedElaboratable=no
"""The loader between a store that the test plays and a memory that it keeps itself."""

import numpy as np
import pytest

from lutra.formats import Numerics
from lutra.hdl.activation_loader import ActivationLoader

INT8 = Numerics(activation="int8", act_width=8)
STORE_LATENCY = 2


def _parameters(hdl, formats=("int4_asym",), **changes):
    changes = {"engine": "term", "fold": 2, **changes}
    return hdl.parameters(formats, INT8, group_sizes=(), **changes)


async def _load(ctx, dut, parameters, vectors, *, limit=2000):
    """Serve the loader's reads of one vector a token; return its writes with their cycles."""
    act_lanes, tokens = parameters.act_lanes, parameters.tokens
    beats = -(-vectors.shape[1] // act_lanes)
    padded = np.zeros((tokens, 4 * parameters.max_act_beats * act_lanes), dtype=np.int64)
    padded[:, : vectors.shape[1]] = vectors
    for token in range(tokens):
        ctx.set(dut.tokens[token].beats, beats)
    ctx.set(dut.token_ready, 1)
    pending, writes, filled = [None] * STORE_LATENCY, [], 0
    for now in range(limit):
        beat = pending.pop(0)
        ctx.set(dut.aligned_valid, beat is not None)
        for token in range(tokens):
            for lane in range(act_lanes):
                # A store that is not read may show anything.
                value = -77 if beat is None else int(padded[token, beat * act_lanes + lane])
                ctx.set(dut.aligned[token][lane], value)
        pending.append(ctx.get(dut.read_beat) if ctx.get(dut.read) else None)
        if ctx.get(dut.write.enable):
            values = [ctx.get(dut.write.values[token].elements) for token in range(tokens)]
            sums = None
            if "sum" in dut.write.values[0].shape().members:
                sums = [ctx.get(dut.write.values[token].sum) for token in range(tokens)]
            address, index = ctx.get(dut.write.slice), ctx.get(dut.write.index)
            writes.append((now, address, index, [list(v) for v in values], sums))
        release = ctx.get(dut.release)
        if release:
            ctx.set(dut.token_ready, 0)
        # Tiles are given back as soon as they are there.
        ctx.set(dut.finished, filled)
        filled = ctx.get(dut.filled)
        await ctx.tick()
        if release:
            ctx.set(dut.aligned_valid, 0)
            for _ in range(3):
                ctx.set(dut.finished, ctx.get(dut.filled))
                await ctx.tick()
            return writes
    raise AssertionError(f"not released after {limit} cycles, {len(writes)} writes")


def _check(parameters, writes, vectors, first_bank=0):
    """Compare writes with the vectors, padded by zeros to whole slices."""
    layout, fold, part_width = parameters.layout, parameters.core.fold, parameters.part_width
    slices = -(-vectors.shape[1] // layout.width)
    padded = np.zeros((parameters.tokens, slices * layout.width), dtype=np.int64)
    padded[:, : vectors.shape[1]] = vectors
    assert len(writes) == slices * fold
    has_zero = any(item.has_zero_point for item in layout.members)
    bank_bit = parameters.slice_address_width - 1
    for place, (now, address, index, values, sums) in enumerate(writes):
        number, part = divmod(place, fold)
        assert index == part
        if part:
            assert now == writes[place - 1][0] + 1, "parts follow each other"
        tile, inside = divmod(number, layout.tile_slices)
        assert address == inside + ((tile + first_bank) % 2 << bank_bit)
        own = padded[:, place * part_width : (place + 1) * part_width]
        assert values == own.tolist(), f"part {part} of slice {number}"
        assert sums == (own.sum(axis=1).tolist() if has_zero else None)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize(
    ("width", "fold", "act_lanes"),
    [(8, 1, 8), (8, 1, 1), (8, 2, 4), (8, 2, 1), (8, 4, 2), (24, 3, 4), (24, 2, 4), (16, 2, 8)],
)
def test_writes(hdl, tokens, width, fold, act_lanes):
    parameters = _parameters(
        hdl, engine="term", fold=fold, width=width, act_lanes=act_lanes, tokens=tokens
    )
    dut = ActivationLoader(parameters=parameters)
    rng = np.random.default_rng(width + fold + tokens)

    async def bench(ctx):
        bank = 0
        for columns in (width, 80, 3 * width - 1, 1, 2 * width + 1):
            vectors = rng.integers(-128, 128, (tokens, columns))
            writes = await _load(ctx, dut, parameters, vectors)
            _check(parameters, writes, vectors, bank)
            slices = -(-columns // width)
            bank ^= -(-slices // parameters.layout.tile_slices) & 1

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("lowest", [-128, 127])
def test_extreme_sums(hdl, lowest):
    parameters = _parameters(hdl, engine="mac", fold=1, width=16, act_lanes=4)
    dut = ActivationLoader(parameters=parameters)

    async def bench(ctx):
        vectors = np.full((1, 80), lowest)
        _check(parameters, await _load(ctx, dut, parameters, vectors), vectors)

    hdl.simulate(dut, bench)


def test_no_sums_without_zero_point(hdl):
    parameters = _parameters(hdl, ("int4", "bitmod4"))
    dut = ActivationLoader(parameters=parameters)
    assert "sum" not in dut.write.values[0].shape().members

    async def bench(ctx):
        vectors = np.random.default_rng(2).integers(-128, 128, (1, 33))
        _check(parameters, await _load(ctx, dut, parameters, vectors), vectors)

    hdl.simulate(dut, bench)


def test_slice_takes_a_cycle_a_part(hdl):
    """Reads, the store's latency, the writes, and one to go on."""
    parameters = _parameters(hdl, width=16, act_lanes=4, engine="term", fold=4)
    dut = ActivationLoader(parameters=parameters)

    async def bench(ctx):
        writes = await _load(ctx, dut, parameters, np.ones((1, 32), dtype=np.int64))
        assert writes[4][0] - writes[0][0] == 4 + STORE_LATENCY + 4 + 1

    hdl.simulate(dut, bench)
