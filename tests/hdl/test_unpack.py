# amaranth: UnusedElaboratable=no
"""The stream's reader: what it says of every beat, every slice and every layer, under stalls."""

import random

import pytest
from amaranth import Value

from lutra.formats import pack
from lutra.hdl import Error
from lutra.hdl.unpack import Unpack, slice_layout, weight_layout
from lutra.sim import random_matrix
from lutra.sim.handshake import Source, StallPattern

CODE_WIDTH = 3


def _plan(layout, matrix, row_bank):
    """Return what each beat is, and each slice, in order, from the page that specifies them."""
    beats, slices = [], []
    blocks = -(-matrix.rows // layout.lanes)
    bank = row_bank * (1 << (layout.max_blocks - 1).bit_length())
    beats += [("nothing",)] * layout.layer_header_beats
    for block in range(blocks):
        beats += [("row_scale", part, bank | block) for part in range(layout.row_scale_beats)]
    beats += [("nothing",)]
    segment = layout.segment_slices(matrix.group_size)
    count = -(-matrix.columns // layout.width)
    batch_beats, batch_records = layout.batch_shape
    batch = [("batch", part) for part in range(batch_beats)]
    for tile, first in enumerate(range(0, count, layout.tile_slices)):
        length = min(layout.tile_slices, count - first)
        records = [
            (block, start, min(segment, length - start))
            for block in range(blocks)
            for start in range(0, length, segment)
        ]
        beats += [*[("nothing",)] * layout.tile_header_beats, *batch]
        for number, (block, start, size) in enumerate(records):
            if (number + 1) % batch_records == 0 and number + 1 < len(records):
                beats += batch
            for index in range(size):
                beats += [("code", bit) for bit in range(CODE_WIDTH)]
                slices.append({
                    "slice": start + index,
                    "row": bank | block,
                    "first": index == 0,
                    "last": index == size - 1,
                    "clear": tile == 0 and start == 0,
                    "tile_end": number == len(records) - 1 and index == size - 1,
                })
        beats += [("nothing",)]
    return beats, slices


def _shown(ctx, fill):
    """Name what the lanes are told to do with the beat at hand."""
    batch, code, scale = (ctx.get(fill[name]) for name in ("batch", "code", "row_scale"))
    if not batch | code | scale:
        return ("nothing",)
    if batch:
        assert not code | scale
        return "batch", batch.bit_length() - 1
    if code:
        assert not scale
        return "code", code.bit_length() - 1
    return "row_scale", scale.bit_length() - 1, ctx.get(fill.row)


@pytest.mark.parametrize("chance", [0.0, 0.4])
@pytest.mark.parametrize(
    ("rows", "columns", "group_size"), [(3, 8, 8), (7, 37, 8), (12, 40, 16), (5, 80, 32)]
)
def test_every_beat_and_slice(hdl, rows, columns, group_size, chance):
    """Two layers, so that banks change; without stalls not a cycle is lost within a tile."""
    parameters = hdl.parameters(("int3",))
    layout = parameters.layout
    dut = Unpack(parameters=parameters)
    bench = hdl.EngineBench(parameters, engine=object())
    matrix = random_matrix("int3", rows, columns, group_size, seed=1)
    rng = random.Random(2)
    source = Source(bench.w(pack(matrix, layout)) * 2, StallPattern(chance, 3))
    slice_bits = (layout.tile_slices - 1).bit_length()

    async def script(ctx):
        ctx.set(dut.shape.code_bits, (1 << CODE_WIDTH - 1) - 1)
        ctx.set(dut.rows_free, 0b11)
        ctx.set(dut.drained, 1)
        ctx.set(dut.token.beats, -(-columns // 4))
        table_bank = 0
        for layer in range(2):
            beats, slices = _plan(layout, matrix, layer)
            done = lost = 0
            while beats or not done:
                ctx.set(dut.i.valid, source.valid)
                ctx.set(Value.cast(dut.i.payload), source.payload)
                ctx.set(dut.slice_ready, rng.random() >= chance)
                ctx.set(dut.filled, rng.random() >= chance)
                takes = source.valid and ctx.get(dut.i.ready)
                shown = _shown(ctx, dut.fill)
                if takes:
                    expected = beats.pop(0)
                    assert shown == expected, f"{len(beats)} beats before the end of {layer}"
                else:
                    assert shown == ("nothing",)
                    # A header is taken up, or a layer ends, between beats.
                    lost += source.valid
                assert ctx.get(dut.fill.slice) == (
                    takes and shown[0] == "code" and shown[1] == CODE_WIDTH - 1
                )
                assert ctx.get(dut.taken) == (
                    bool(ctx.get(dut.fill.slice)) and slices[0]["tile_end"]
                )
                if ctx.get(dut.fill.slice):
                    assert ctx.get(dut.slice_valid)
                    item = slices.pop(0)
                    address = table_bank << slice_bits | item.pop("slice")
                    assert ctx.get(dut.slice.slice) == address
                    assert {name: ctx.get(dut.slice[name]) for name in item} == item
                    table_bank ^= item["tile_end"]
                if ctx.get(dut.done):
                    done += 1
                    assert not slices
                    assert not beats
                    assert ctx.get(dut.rows) == rows
                    assert ctx.get(dut.row_bank) == layer
                    assert ctx.get(dut.layer_token.beats) == -(-columns // 4)
                ready = (await ctx.tick().sample(dut.i.ready))[-1]
                source.observe(bool(ready))
            assert done == 1
            tiles = -(-columns // layout.tile_columns)
            # Checking a header takes a cycle, and so does taking up the first record's. The cycle
            # in which a layer is done is only lost where another one waits.
            assert chance > 0 or lost == 1 + 2 * tiles + (layer == 0)
        assert ctx.get(dut.error) == Error.NONE
        assert not ctx.get(dut.busy)

    hdl.simulate(dut, script)


def test_row_sums_are_waited_for(hdl):
    """No row scale is written while the bank's last layer is still being read."""
    parameters = hdl.parameters(("int3",))
    dut = Unpack(parameters=parameters)
    bench = hdl.EngineBench(parameters, engine=object())
    matrix = random_matrix("int3", 3, 8, 8, seed=1)
    source = Source(bench.w(matrix))

    async def script(ctx):
        async def cycles(count):
            for _ in range(count):
                ctx.set(dut.i.valid, source.valid)
                ctx.set(Value.cast(dut.i.payload), source.payload)
                source.observe(bool((await ctx.tick().sample(dut.i.ready))[-1]))

        ctx.set(dut.rows_free, 0b10)
        await cycles(30)
        assert source.sent == parameters.layout.layer_header_beats
        ctx.set(dut.rows_free, 0b01)
        await cycles(4)
        assert source.sent > parameters.layout.layer_header_beats

    hdl.simulate(dut, script)


def test_layouts(hdl):
    parameters = hdl.parameters(("int3",), max_rows=12, tile_slices=2)
    weights = weight_layout(parameters)
    assert (weights["data"].offset, weights["data"].width) == (0, 32)
    assert (weights["last"].offset, weights.size) == (32, 33)
    described = slice_layout(parameters)
    assert described["slice"].width == 2
    assert described["row"].width == 3
