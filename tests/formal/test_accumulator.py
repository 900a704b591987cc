# amaranth: UnusedElaboratable=no
"""Row sums: additions see each other, and none overflows at the width that is derived."""

import pytest
from amaranth import Const, Mux, Signal, signed

from lutra.hdl import EngineParameters
from lutra.hdl.accumulator import RowAccumulator, prepare_cycles
from lutra.hdl.multiply import DspMultiply

# Formats whose group sums come in every cycle, in every second, third and fourth.
INTERVALS = ("bcq1", "int2", "int3", "int4")


def accumulator(formal, name):
    """Return an accumulator beside a model of one row, whichever it is."""
    parameters = formal.parameters(max_rows=8, scale_width=1, formats=(name,))
    bench = formal.Bench()
    m = bench.m
    marked = bench.some(parameters.row_address_width, name="marked")
    prepare = bench.free(parameters.row_address_width, name="prepare")
    dut = bench.add(
        RowAccumulator(parameters=parameters),
        prepare_row=prepare,
        row=bench.past(prepare, prepare_cycles(parameters)),
        drain=Const(1),
        drain_row=marked,
    )
    for age in range(1, parameters.sum_interval):
        bench.assume(~dut.add | ~bench.past(dut.add, age))
    total = Signal(signed(parameters.sum_width), name="total")
    adds = dut.add & (dut.row == marked)
    clear = bench.past(dut.clear)
    with m.If(adds):
        m.d.sync += total.eq(Mux(clear, 0, total) + dut.values[0])
    named = bench.past(bench.started, prepare_cycles(parameters) - 1)  # a row has been
    bench.assume(named | ~dut.add)
    read = bench.past(bench.started)
    bench.claim("what is read", dut.drained[0] == bench.past(total, 2), when=read)
    return bench


@pytest.mark.parametrize("name", INTERVALS)
def test_additions_see_each_other(formal, name):
    bench = accumulator(formal, name)
    formal.prove(bench, depth=7, induction=True, memory_map=True)


@pytest.mark.parametrize("name", INTERVALS)
@pytest.mark.parametrize("fault", [("add", "sub", 0), ("mux", "swapped", 0)])
def test_faults_are_found(formal, fault, name):
    formal.refute(accumulator(formal, name), "what is read", depth=12, fault=fault)


class EveryCycle(EngineParameters):
    """Group sums that may come in every cycle."""

    @property
    def sum_interval(self):
        """One cycle."""
        return 1


class NarrowSum(EveryCycle):
    """One bit less for row sums than is derived."""

    @property
    def sum_width(self):
        """One bit less."""
        return super().sum_width - 1


class NarrowSegment(EveryCycle):
    """One bit less for group sums."""

    @property
    def segment_width(self):
        """One bit less."""
        return super().segment_width - 1


def row(formal, formats, kind=EveryCycle):
    """Return multiplier and accumulator with the largest row, its groups as large as they come.

    Each group's sum is the largest or the smallest that its codes and activations can have, or
    zero, and so is each scale.
    """
    plain = formal.parameters(formats, max_columns=24, scale_width=3, multiply="dsp")
    parameters = kind(layout=plain.layout, numerics=plain.numerics, core=plain.core, multiply="dsp")
    layout = parameters.layout
    (item,) = layout.members
    groups = 3 if item.scale_count == 1 else 3 * item.scale_count
    weight = item.peak if item.scale_count == 1 else 1
    value_peak, scale_peak = weight * layout.width * parameters.numerics.peak, 7
    bench = formal.Bench()
    m = bench.m

    def extreme(peak, name):
        sign = bench.free(2, name=name)
        return bench.wire(Mux(sign[1], 0, Mux(sign[0], peak, -peak)), name=f"{name}_value")

    value, scale = extreme(value_peak, "group"), extreme(scale_peak, "scale")
    time = Signal(range(groups + 8), name="time")
    m.d.sync += time.eq(Mux(time == groups + 5, time, time + 1))
    multiply = bench.add(DspMultiply(parameters=parameters), value=value, scale=scale)
    adds = (time >= 2) & (time < groups + 2)
    rows = bench.add(
        RowAccumulator(parameters=parameters),
        name="dut_rows",
        prepare_row=Const(1),
        row=Const(1),
        add=adds,
        clear=time == 1,
        values=multiply.product,
        drain=Const(1),
        drain_row=Const(1),
    )
    exact = Signal(signed(40), name="exact")
    with m.If(time < groups):
        m.d.sync += exact.eq(exact + value * scale)
    bench.claim("group sum", multiply.value == value)
    bench.claim("row sum", rows.drained[0] == exact, when=time == groups + 5)
    return bench, groups + 7


@pytest.mark.parametrize("name", ["int3", "int2_asym", "bcq2_asym", "float4_e2m1"])
def test_no_sum_overflows(formal, name):
    bench, depth = row(formal, (name,))
    formal.prove(bench, depth=depth)


@pytest.mark.parametrize(("kind", "claim"), [(NarrowSum, "row sum"), (NarrowSegment, "group sum")])
@pytest.mark.parametrize("name", ["int3", "bcq2_asym"])
def test_one_bit_less_overflows(formal, name, kind, claim):
    bench, depth = row(formal, (name,), kind)
    formal.refute(bench, claim, depth=depth)
