# amaranth: UnusedElaboratable=no
"""One lane by itself: exact latencies, and sums of records that the test steps through."""

import random

import pytest

from lutra.formats import Numerics
from lutra.hdl.lane import Lane, LaneSchedule

INT8 = Numerics(activation="int8", act_width=8)


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        # Look-up 1, one for the table and one for each two levels of the tree, digits, group,
        # then the multiplier.
        ({"mu": 8}, (1, 2, 3, 4, 6, 7)),
        ({"mu": 4}, (1, 3, 4, 5, 7, 8)),
        ({"mu": 1}, (1, 4, 5, 6, 8, 9)),
        ({"mu": 1, "width": 32, "group_sizes": (32,), "lanes": 1}, (1, 5, 6, 7, 9, 10)),
        ({"mu": 4, "multiply": "dsp"}, (1, 3, 4, 5, 6, 7)),
        ({"mu": 4, "formats": ("bcq2",)}, (1, 3, 4, 5, 5, 6)),
        ({"mu": 4, "formats": ("int8",), "group_sizes": (16,)}, (1, 3, 4, 5, 13, 14)),
    ],
)
def test_schedule(hdl, changes, stages):
    schedule = LaneSchedule(hdl.parameters(numerics=INT8, **changes))
    look_up, inject, combine, scale, prepare, add = stages
    assert schedule.look_up == look_up
    assert schedule.inject == inject
    assert schedule.combine == combine
    assert schedule.scale == scale
    assert schedule.prepare == prepare
    assert schedule.add == add


class Bench:
    """A lane whose tables and codes the test fills, stepped as an engine would."""

    def __init__(self, hdl, **changes):
        self.hdl = hdl
        self.parameters = hdl.parameters(numerics=INT8, **changes)
        self.lane = Lane(parameters=self.parameters)
        self.schedule = LaneSchedule(self.parameters)
        self.steps = []  # of each cycle: None, or a dictionary
        self.activations = []

    async def fill_tables(self, ctx, activations):
        """Write every entry of slice 0."""
        parameters, mu = self.parameters, self.parameters.mu
        self.activations = activations
        padded = [*activations, *[0] * (parameters.tables * mu - len(activations))]
        for entry in range(parameters.entries):
            signs = [1 if entry >> bit & 1 else -1 for bit in range(mu)]
            values = [
                sum(s * padded[table * mu + i] for i, s in enumerate(signs))
                for table in range(parameters.tables)
            ]
            ctx.set(self.lane.write, {"enable": 1, "slice": 0, "entry": entry, "values": values})
            await ctx.tick()
        ctx.set(self.lane.write.enable, 0)

    async def take_slice(self, ctx, codes, scale, zero=0):
        """Give a header batch and one slice of codes, as the unpacker does."""
        lane, layout = self.lane, self.parameters.layout
        item = layout.members[0]
        values = {"scale_0": scale & (1 << layout.scale_width + 1) - 1, "zero": zero}
        header = layout.record_header.pack(**{
            name: values.get(name, 0) for name in layout.record_header
        })
        for part in range(layout.batch_shape[0]):
            ctx.set(lane.beat, header >> part * layout.width & (1 << layout.width) - 1)
            ctx.set(lane.fill, {"batch": 1 << part})
            await ctx.tick()
        ctx.set(lane.fill, {"header": 1})
        await ctx.tick()
        for bit in range(item.code_width):
            beat = sum((code >> bit & 1) << column for column, code in enumerate(codes))
            ctx.set(lane.beat, beat)
            last = bit == item.code_width - 1
            ctx.set(lane.fill, {"code": 1 << bit, "slice": last})
            await ctx.tick()
        ctx.set(lane.fill, {})

    def drive(self, ctx, cycle):
        """Set every `at_*` member to the step that is due there."""
        lane, schedule = self.lane, self.schedule

        def at(stage):
            index = cycle - stage
            return self.steps[index] if 0 <= index < len(self.steps) else None

        due = at(0)
        ctx.set(lane.at_step, due["step"] if due else 0)
        ctx.set(lane.at_look_up, 0)
        ctx.set(lane.at_inject, sum(self.activations) if at(schedule.inject) else 77)
        combine = at(schedule.combine)
        flags = ("first", "last", "clear")
        ctx.set(
            lane.at_combine,
            {"valid": 1, **{name: combine[name] for name in flags}} if combine else {},
        )
        for member, stage in ((lane.at_prepare, schedule.prepare), (lane.at_add, schedule.add)):
            step = at(stage)
            ctx.set(member, step["row"] if step else 0)


@pytest.mark.parametrize("table", ["full", "half"])
@pytest.mark.parametrize("mu", [2, 4, 8])
@pytest.mark.parametrize("multiply", ["serial", "dsp"])
def test_latency_of_a_row_sum(hdl, multiply, mu, table):
    """The sum stands in memory in the cycle after the schedule's addition, and not before."""
    bench = Bench(
        hdl, formats=("int3_asym",), multiply=multiply, mu=mu, table=table, group_sizes=(8,)
    )
    rng = random.Random(mu)
    activations = [rng.randrange(-128, 128) for _ in range(8)]
    codes = [rng.randrange(8) for _ in range(8)]
    scale, zero = -201, 5
    expected = sum(scale * (c - zero) * x for c, x in zip(codes, activations, strict=True))
    bench.steps = [
        {"step": step, "first": step == 0, "last": step == 2, "clear": 1, "row": 1}
        for step in range(3)
    ]

    async def script(ctx):
        lane = bench.lane
        await bench.fill_tables(ctx, activations)
        await bench.take_slice(ctx, codes, scale, zero)
        ctx.set(lane.drain, 1)
        ctx.set(lane.drain_row, 1)
        seen = []
        for cycle in range(bench.schedule.add + 8):
            bench.drive(ctx, cycle)
            await ctx.tick()
            seen.append(ctx.get(lane.drained_sum))
        assert expected != 0
        # The last of three steps adds in cycle 2 + add; a read one cycle later sees it.
        first = seen.index(expected)
        assert first == 2 + bench.schedule.add + 1
        assert set(seen[first:]) == {expected}

    hdl.simulate(bench.lane, script)


@pytest.mark.parametrize("multiply", ["serial", "dsp"])
def test_groups_add_up_in_their_row(hdl, multiply):
    """Records of one row follow each other as closely as the multiplier allows."""
    bench = Bench(hdl, formats=("int4",), multiply=multiply, group_sizes=(8,))
    rng = random.Random(1)
    activations = [rng.randrange(-128, 128) for _ in range(8)]
    codes = [rng.randrange(16) for _ in range(8)]
    weights = [code - 16 * (code >> 3) for code in codes]
    scale = 255
    dot = sum(w * x for w, x in zip(weights, activations, strict=True))
    # Rows 0 and 1 take records in turn; the first of each clears.
    for record in range(6):
        bench.steps += [
            {
                "step": step,
                "first": step == 0,
                "last": step == 3,
                "clear": record < 2,
                "row": record % 2,
            }
            for step in range(4)
        ]
    assert bench.parameters.multiply_interval <= 4

    async def script(ctx):
        lane = bench.lane
        await bench.fill_tables(ctx, activations)
        await bench.take_slice(ctx, codes, scale)
        for cycle in range(len(bench.steps) + bench.schedule.add + 2):
            bench.drive(ctx, cycle)
            await ctx.tick()
        for row in range(2):
            ctx.set(lane.drain, 1)
            ctx.set(lane.drain_row, row)
            await ctx.tick()
            assert ctx.get(lane.drained_sum) == 3 * scale * dot

    hdl.simulate(bench.lane, script)


def test_row_scales(hdl):
    """Four beats of eight bits, lowest first; a row is written with its last beat."""
    bench = Bench(hdl)
    lane = bench.lane
    scales = {0: 0x3F800000, 1: 0xDEADBEEF, 3: 0x12345678}

    async def script(ctx):
        for row, bits in scales.items():
            for part in range(4):
                ctx.set(lane.beat, bits >> 8 * part & 0xFF)
                ctx.set(lane.fill, {"row_scale": 1 << part, "row": row})
                await ctx.tick()
        ctx.set(lane.fill, {})
        for row, bits in scales.items():
            ctx.set(lane.drain, 1)
            ctx.set(lane.drain_row, row)
            await ctx.tick()
            assert ctx.get(lane.drained_scale) == bits
            ctx.set(lane.drain, 0)
            ctx.set(lane.drain_row, 2)
            await ctx.tick()
            assert ctx.get(lane.drained_scale) == bits  # held until the next read

    hdl.simulate(lane, script)


def test_shape_of_each_format(hdl):
    """Thermometer codes of code width and planes, and what is no format."""
    parameters = hdl.parameters(("bitmod3", "int8", "bcq1"))
    lane = Lane(parameters=parameters)
    layout = parameters.layout

    async def script(ctx):
        for number in range(8):
            for part in range(layout.batch_shape[0]):
                ctx.set(lane.beat, number if part == 0 else 0)
                ctx.set(lane.fill, {"batch": 1 << part})
                await ctx.tick()
            ctx.set(lane.fill, {"header": 1})
            await ctx.tick()
            ctx.set(lane.fill, {})
            known = number < len(layout.members)
            assert ctx.get(lane.shape.unknown) == (not known)
            if known:
                item = layout.members[number]
                assert ctx.get(lane.shape.code_bits) == (1 << item.code_width - 1) - 1
                assert ctx.get(lane.shape.planes) == (1 << len(item.planes) - 1) - 1

    hdl.simulate(lane, script)
