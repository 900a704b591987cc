# amaranth: UnusedElaboratable=no
"""Each slice has exactly its steps, once, in order, whatever slices come and whenever."""

from typing import Any

import pytest
from amaranth import Mux, Signal

from lutra.hdl.sequencer import Sequencer

SHAPES = {
    "several planes": {"formats": ("int3", "bcq2")},
    "short records wait": {"formats": ("int2", "int5"), "scale_width": 4, "tile_slices": 2},
    "nobody waits": {"formats": ("int3",), "multiply": "dsp"},
}
FAULTS = {
    "a step is counted down": ("add", "sub", 0),
    "the last step is any other": ("eq", "ne", 0),
    "the first step is any other": ("eq", "ne", 1),
}


def sequencer(formal, shape):
    """Return a sequencer beside a model that counts each slice's steps."""
    parameters = formal.parameters(**SHAPES[shape])
    bench = formal.Bench()
    m = bench.m
    dut = bench.add(Sequencer(parameters=parameters))
    due, taken = dut.due, dut.slice_valid & dut.slice_ready
    bench.assume(dut.slice.last_step < parameters.max_cycles)

    current: Any = Signal(dut.slice.shape(), name="current")
    have, step = Signal(name="have"), Signal.like(dut.step, name="at")
    ends = step == current.last_step
    with m.If(due.valid):
        m.d.sync += step.eq(Mux(ends, 0, step + 1))
        with m.If(ends):
            m.d.sync += have.eq(0)
    with m.If(taken):
        m.d.sync += [have.eq(1), current.eq(dut.slice)]

    bench.claim("steps are of a slice", have, when=due.valid)
    bench.claim("no slice is cut short", ~have | (due.valid & ends), when=taken)
    bench.claim("occupied", dut.occupied == have)
    bench.claim("the slice", due.slice.as_value() == current.as_value(), when=have)
    bench.claim("steps in order", dut.step == step)
    bench.claim("a slice begins at its first step", step == 0, when=~have)
    bench.claim("steps exist", step <= current.last_step, when=have)
    bench.claim("first", due.first == (current.first & (step == 0)), when=due.valid)
    bench.claim("last", due.last == (current.last & ends), when=due.valid)
    bench.claim("tile end", due.tile_end == (current.tile_end & ends), when=due.valid)

    interval = parameters.multiply_interval
    since, waits = Signal(range(interval + 1), init=interval), Signal(range(interval + 1))
    m.d.sync += since.eq(Mux(due.valid & due.last, 1, Mux(since == interval, since, since + 1)))
    m.d.sync += waits.eq(Mux(have & ~due.valid, waits + 1, 0))
    bench.claim("sums are apart", since >= interval, when=due.valid & due.last)
    bench.claim("no wait is longer", waits < interval)
    return bench, interval + 3


@pytest.mark.parametrize("shape", SHAPES)
def test_every_step_once(formal, shape):
    bench, depth = sequencer(formal, shape)
    formal.prove(bench, depth=depth, induction=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(formal, fault):
    bench, _ = sequencer(formal, "several planes")
    formal.refute(bench, depth=8, fault=FAULTS[fault])


@pytest.mark.parametrize("shape", ["short records wait", "nobody waits"])
def test_a_fault_is_found_in_every_shape(formal, shape):
    bench, _ = sequencer(formal, shape)
    formal.refute(bench, depth=8, fault=("eq", "ne", 0))
