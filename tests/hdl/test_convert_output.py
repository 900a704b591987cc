# amaranth: UnusedElaboratable=no
"""The output unit as a stream: order, stalls, beats that are not full, and latency."""

import random

import numpy as np
import pytest
from amaranth import Value
from amaranth.lib import data

from lutra.formats import FLOATS, Numerics
from lutra.hdl.convert_output import ConvertOutput, output_layout
from lutra.hdl.drain import sum_layout
from lutra.sim import convert_output
from lutra.sim.amaranth_driver import simulate_streams
from lutra.sim.handshake import Sink, Source, StallPattern


def _layers(parameters, seed):
    """Beats of three layers as dictionaries."""
    rng = random.Random(seed)
    lanes, limit = parameters.layout.output_lanes, 1 << parameters.sum_width - 1
    for rows in (1, 7, 4):
        exponent, nonfinite = rng.randrange(-30, 10), rng.randrange(2)
        for first in range(0, rows, lanes):
            yield {
                "sums": [rng.randrange(-limit, limit) for _ in range(lanes)],
                "row_scales": [
                    int(np.float32(rng.uniform(-2, 2)).view(np.uint32)) for _ in range(lanes)
                ],
                "present": sum(1 << i for i in range(lanes) if first + i < rows),
                "exponent": exponent,
                "nonfinite": nonfinite,
                "last": first + lanes >= rows,
            }


def _pack(layout, values):
    return layout.const(values).as_value().value


def _expected(parameters, beat):
    output = parameters.numerics.output
    values = []
    for index, (total, scale) in enumerate(zip(beat["sums"], beat["row_scales"], strict=True)):
        if not beat["present"] >> index & 1:
            values.append(0)
        elif output == "int":
            values.append(total)
        else:
            number = convert_output(
                np.array([[total]], dtype=np.int64),
                np.array([beat["exponent"]], dtype=np.int32),
                np.array([scale], dtype=np.uint32).view(np.float32),
                output,
                np.array([bool(beat["nonfinite"])]),
            )
            values.append(int(number.view(f"u{FLOATS[output].width // 8}")[0, 0]))
    fields = {"values": values, "last": beat["last"]}
    if output == "int":
        fields["exponent"] = beat["exponent"]
    return _pack(output_layout(parameters), fields)


@pytest.mark.parametrize("chances", [(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)])
@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("output", ["int", *FLOATS])
def test_stream(hdl, output, lanes, chances):
    """In order and whole under stalls; rows past the end are zero, even where a token is NaN."""
    parameters = hdl.parameters(numerics=Numerics(output=output), output_lanes=lanes)
    dut = ConvertOutput(parameters=parameters)
    beats = [beat for seed in range(4) for beat in _layers(parameters, seed)]
    source = Source(
        [_pack(sum_layout(parameters), beat) for beat in beats], StallPattern(chances[0], 1)
    )
    sink = Sink(StallPattern(chances[1], 2))
    result = simulate_streams(
        dut,
        sources={"i": source},
        sinks={"o": sink},
        expected={"o": len(beats)},
        watch={"busy": dut.busy},
    )
    assert sink.received == [_expected(parameters, beat) for beat in beats]
    assert not result["busy"]
    if chances == (0, 0):
        assert result["cycles"] == len(beats) + dut.latency


@pytest.mark.parametrize(
    ("output", "latency"), [("int", 1), ("float32", 17), ("float16", 20), ("bfloat16", 20)]
)
def test_latency(hdl, output, latency):
    parameters = hdl.parameters(numerics=Numerics(output=output))
    dut = ConvertOutput(parameters=parameters)
    assert dut.latency == latency
    beat = next(iter(_layers(parameters, 1)))

    async def bench(ctx):
        ctx.set(Value.cast(dut.i.payload), _pack(sum_layout(parameters), beat))
        ctx.set(dut.i.valid, 1)
        for cycle in range(latency):
            assert not ctx.get(dut.o.valid)
            assert ctx.get(dut.busy) == (cycle > 0)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
        for cycle in range(5):  # held until it is taken
            assert ctx.get(dut.o.valid)
            assert ctx.get(Value.cast(dut.o.payload)) == _expected(parameters, beat)
            assert ctx.get(dut.i.ready) == (cycle == 0)
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        assert ctx.get(dut.i.ready)
        assert not ctx.get(dut.o.valid)

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("lanes", [1, 2])
def test_beat_layout(hdl, lanes):
    """As `docs/weight-stream.md` has it: values, the exponent of an int, last on top."""
    parameters = hdl.parameters(numerics=Numerics(output="int"), output_lanes=lanes)
    layout = output_layout(parameters)
    assert layout["values"].offset == 0
    assert layout["exponent"].offset == lanes * parameters.sum_width
    assert layout["last"].offset == layout.size - 1 == lanes * parameters.sum_width + 8
    floats = hdl.parameters(numerics=Numerics(output="float16"), output_lanes=lanes)
    layout = output_layout(floats)
    assert isinstance(layout, data.StructLayout)
    assert [name for name, _ in layout] == ["values", "last"]
    assert layout.size == 16 * lanes + 1
