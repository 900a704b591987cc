# amaranth: UnusedElaboratable=no
"""Steps of slices: all of them, in order, without a gap but where the multiplier needs one."""

import random

import pytest

from lutra.hdl.sequencer import Sequencer


class Slices:
    """Random slices in records, each with a number of cycles."""

    def __init__(self, parameters, count, seed):
        rng = random.Random(seed)
        self.items = []
        counts = sorted(set(parameters.member_cycles))
        while len(self.items) < count:
            cycles, length = rng.choice(counts), rng.randrange(1, 4)
            row, clear = rng.randrange(4), rng.randrange(2)
            for index in range(length):
                self.items.append({
                    "last_step": cycles - 1,
                    "slice": rng.randrange(4),
                    "row": row,
                    "first": index == 0,
                    "last": index == length - 1,
                    "clear": clear,
                    "tile_end": rng.randrange(2),
                })

    def steps(self):
        """Return (step, first, last, item) of every step in order."""
        return [
            (step, item["first"] and step == 0, item["last"] and step == item["last_step"], item)
            for item in self.items
            for step in range(item["last_step"] + 1)
        ]


def _run(hdl, parameters, slices, chance, seed):
    """Return the cycle of every step, having checked what it says of itself."""
    dut = Sequencer(parameters=parameters)
    rng = random.Random(seed)
    wanted = slices.steps()
    cycles = []

    async def bench(ctx):
        index, valid = 0, False
        for cycle in range(40 * len(wanted) + 40):
            valid = valid or (index < len(slices.items) and rng.random() >= chance)
            ctx.set(dut.slice_valid, valid)
            if valid:
                ctx.set(dut.slice, slices.items[index])
            if ctx.get(dut.due.valid):
                assert ctx.get(dut.occupied)
                step, first, last, item = wanted[len(cycles)]
                assert ctx.get(dut.step) == step
                assert ctx.get(dut.due.first) == first
                assert ctx.get(dut.due.last) == last
                tile_end = item["tile_end"] and step == item["last_step"]
                assert ctx.get(dut.due.tile_end) == tile_end
                for name in ("slice", "row", "clear", "tile_end"):
                    assert ctx.get(dut.due.slice[name]) == item[name]
                cycles.append(cycle)
            ready = (await ctx.tick().sample(dut.slice_ready))[-1]
            if valid and ready:
                index, valid = index + 1, False
            if len(cycles) == len(wanted):
                break
        await ctx.tick()
        assert not ctx.get(dut.occupied)
        assert not ctx.get(dut.due.valid)

    hdl.simulate(dut, bench)
    assert len(cycles) == len(wanted)
    return cycles


@pytest.mark.parametrize("chance", [0.0, 0.5])
@pytest.mark.parametrize(
    ("formats", "changes"),
    [
        (("bitmod4", "int2", "bcq1"), {}),
        (("int8",), {"group_sizes": (16,)}),
        (("ternary",), {"group_sizes": (16,)}),
        (("bcq1",), {"multiply": "dsp"}),
    ],
)
def test_every_step_in_order(hdl, formats, changes, chance):
    parameters = hdl.parameters(formats, **changes)
    _run(hdl, parameters, Slices(parameters, 60, seed=1), chance, seed=2)


@pytest.mark.parametrize("formats", [("bitmod4", "int2", "bcq1"), ("int3",), ("bcq1",)])
def test_no_gap_while_slices_come(hdl, formats):
    """Where the multiplier keeps up, a step every cycle, slices of one plane included."""
    parameters = hdl.parameters(formats, multiply="dsp")
    cycles = _run(hdl, parameters, Slices(parameters, 40, seed=3), 0.0, seed=4)
    assert cycles == list(range(1, len(cycles) + 1))


def test_only_short_records_wait(hdl):
    """A record's sum follows the last one's by the multiplier's interval, and no later."""
    parameters = hdl.parameters(("int2", "int8"), group_sizes=(16,))
    interval = parameters.multiply_interval
    assert interval == 4
    slices = Slices(parameters, 60, seed=5)
    cycles = _run(hdl, parameters, slices, 0.0, seed=6)
    expected, cycle, ended = [], 0, -interval
    for _, _, last, _ in slices.steps():
        cycle += 1
        if last:
            cycle = max(cycle, ended + interval)
            ended = cycle
        expected.append(cycle)
    assert cycles == expected
    assert expected[-1] > len(expected), "no record was short enough to wait"
