"""The AXI4-Stream ports of a packaged engine, driven by cocotbext-axi."""

import shutil

import numpy as np
import pytest

from lutra.gen import PRESETS, EngineError, generate
from lutra.gen.axis_wrapper import axis_wrapper
from lutra.gen.engine_streams import EngineStreams
from lutra.gen.random_layer import random_layer
from lutra.gen.tokens import random_tokens
from lutra.sim import GoldenModel, ToolError
from lutra.sim.cocotb_runner import CocotbJob, run_cocotb

SIMULATOR = "icarus" if shutil.which("iverilog") else "verilator"
DRIVER = "lutra.sim.cocotb_axis_driver"

# Outputs that do not fill whole bytes, several to a beat.
CONFIG = PRESETS["tiny"].replace({
    "name": "small_axis",
    "stream.width": "8",
    "stream.tile_slices": "2",
    "stream.formats": "int3",
    "stream.group_sizes": "16",
    "stream.max_rows": "16",
    "stream.max_columns": "64",
    "stream.output_lanes": "2",
    "numerics.activation": "bfloat16",
    "numerics.output": "int",
    "core.mu": "2",
})


def as_bytes(beats, width):
    """Part payloads into the bytes of ``tdata`` and a byte for ``tlast``."""
    size = -(-width // 8)
    words = [int.from_bytes(beat.tobytes(), "little") for beat in beats]
    return np.array(
        [[*(word % (1 << width)).to_bytes(size, "little"), word >> width] for word in words],
        dtype=np.uint8,
    )


def as_payloads(beats, width):
    """Put ``tdata`` and ``tlast`` together again; check what fills the last byte up."""
    words = [int.from_bytes(beat[:-1].tobytes(), "little") for beat in beats]
    assert all(word < 1 << width for word in words)
    size = width // 8 + 1
    payloads = [
        (word | int(beat[-1]) << width).to_bytes(size, "little")
        for word, beat in zip(words, beats, strict=True)
    ]
    return np.frombuffer(b"".join(payloads), np.uint8).reshape(-1, size)


@pytest.fixture(scope="module")
def verilog():
    engine = generate(CONFIG)
    return engine.verilog + axis_wrapper(CONFIG, engine).verilog


@pytest.fixture(scope="module")
def layer():
    return random_layer((7, 40), ("int3",), 16, CONFIG, seed=3)


def play(verilog, layer, x, **options):
    """Run tokens through the ports; return what came as the engine's own payloads."""
    interface = CONFIG.interface
    streams = EngineStreams(CONFIG, layer, x, None)
    job = CocotbJob(
        x=as_bytes(streams.x, interface.x_width),
        w=as_bytes(streams.w, interface.beat_width),
        w_repeats=streams.passes,
        expected=streams.expected,
        **options,
    )
    (run,) = run_cocotb(verilog, [job], top="small_axis_axis", simulator=SIMULATOR, driver=DRIVER)
    payloads = as_payloads(run.outputs, interface.o_width)
    return streams.answer(payloads, run.cycles, run.status).outputs


@pytest.mark.parametrize("stalls", [(0.0, 0.0, 0.0), (0.4, 0.3, 0.5)])
def test_bits_through_axi_streams(verilog, layer, stalls):
    assert CONFIG.interface.o_width % 8
    numerics = CONFIG.parameters.numerics
    x = random_tokens(numerics, 3, layer.columns, seed=4)
    outputs = play(verilog, layer, x, stalls=stalls, seed=5)
    golden = GoldenModel(layer, numerics).run(x)
    assert outputs[0].size == 3 * 7
    for part, expected in zip(outputs, golden, strict=True):
        assert np.array_equal(part, expected)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("= payload[", "= ~payload["),  # data and tlast
        (".o__valid(m_axis_o_tvalid)", ".o__valid()"),
        ("{s_axis_x_tlast, s_axis_x_tdata", "{1'b0, s_axis_x_tdata"),
    ],
)
def test_a_fault_is_found(verilog, layer, right, wrong):
    assert right in verilog
    numerics = CONFIG.parameters.numerics
    x = random_tokens(numerics, 1, layer.columns, seed=4)
    golden = GoldenModel(layer, numerics).run(x)
    try:
        outputs = play(verilog.replace(right, wrong), layer, x, max_cycles=2000)
    except (AssertionError, EngineError):
        return
    except ToolError as error:  # it waits for outputs until it gives up
        if "broke off" not in str(error):
            raise
        return
    assert any(not np.array_equal(*pair) for pair in zip(outputs, golden, strict=True))
