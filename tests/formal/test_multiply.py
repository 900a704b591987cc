# amaranth: UnusedElaboratable=no
"""Group sum times group scale: for all values and scales, at every spacing that is allowed."""

import pytest
from amaranth import Signal, signed

from lutra.hdl import EngineParameters
from lutra.hdl.multiply import multiply_for

SHAPES = {
    "one digit a cycle": {"formats": ("int8",), "scale_width": 3},
    "lowest bit first": {"formats": ("int2",), "scale_width": 4},
    "two digits a cycle": {"formats": ("int2",), "scale_width": 5},
    "all bits at once": {"formats": ("bcq2",), "scale_width": 3},
    "product at once": {"formats": ("int3",), "scale_width": 3, "multiply": "dsp"},
}


class NarrowSums(EngineParameters):
    """Group sums of few bits, so that the solver sees through more bits of a scale."""

    @property
    def segment_width(self):
        """Few bits."""
        return 5


def multiply(formal, shape):
    """Return a multiplier and whether its product is due."""
    parameters = formal.parameters(**SHAPES[shape])
    if parameters.multiply == "serial":
        parameters = NarrowSums(
            layout=parameters.layout, numerics=parameters.numerics, core=parameters.core
        )
    bench = formal.Bench()
    interval, latency = parameters.multiply_interval, parameters.multiply_latency
    since = Signal(range(interval + 1), init=interval, name="since")
    start = bench.free(1, name="start")
    dut = bench.add(multiply_for(parameters), start=start)
    bench.assume(~start | (since >= interval - 1))
    with bench.m.If(start):
        bench.m.d.sync += since.eq(0)
    with bench.m.Elif(since != interval):
        bench.m.d.sync += since.eq(since + 1)
    product = Signal(signed(parameters.sum_width), name="wanted")
    bench.m.d.comb += product.eq(bench.past(dut.value, latency) * bench.past(dut.scale, latency))
    bench.claim("product", dut.product == product, when=bench.past(start, latency))
    return bench, 2 * latency + 3


@pytest.mark.parametrize("shape", SHAPES)
def test_product(formal, shape):
    bench, depth = multiply(formal, shape)
    formal.prove(bench, depth=depth, induction=True)


FAULTS = {
    "one digit a cycle": ("add", "sub", 0),
    "lowest bit first": ("add", "sub", 0),
    "two digits a cycle": ("add", "sub", 0),
    "all bits at once": ("add", "sub", 0),
    "product at once": ("mul", "add", 0),
}


@pytest.mark.parametrize("shape", FAULTS)
def test_faults_are_found(formal, shape):
    bench, depth = multiply(formal, shape)
    formal.refute(bench, "product", depth=depth, fault=FAULTS[shape])
