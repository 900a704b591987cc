"""The same layers everywhere: one result, and one number of cycles wherever there is a clock."""

import numpy as np
import pytest

from lutra.hdl import Engine
from lutra.sim import (
    DTYPES,
    EmulatedRun,
    Emulator,
    Sink,
    Source,
    StallPattern,
    ToolError,
    random_matrix,
)
from lutra.sim.amaranth_driver import simulate_streams
from lutra.sim.cocotb_runner import SIMULATORS, check_simulator

SEED = 21


def _layers(bench, make_layer):
    rng = np.random.default_rng(SEED)
    layers = []
    for rows, columns, tokens in ((bench.layout.lanes + 1, 37, 2), (1, 16, 1), (3, 50, 1)):
        matrix = random_matrix(
            bench.layout.members,
            rows,
            columns,
            32,
            seed=SEED + columns,
            scale_width=bench.layout.scale_width,
        )
        x = rng.integers(-100, 100, (tokens, columns)).astype(DTYPES[bench.numerics.activation])
        layers.append(make_layer(f"{rows} x {columns}", matrix, x))
    return layers


def _amaranth(bench, job):
    """Play a job in Amaranth's simulator, with the stalls that the cocotb driver has."""

    def payloads(beats):
        return [int.from_bytes(beat.tobytes(), "little") for beat in beats]

    engine = Engine(parameters=bench.parameters)
    stalls = [StallPattern(p, 3 * job.seed + index) for index, p in enumerate(job.stalls)]
    sink = Sink(stalls[2])
    seen = simulate_streams(
        engine,
        sources={
            "i_x": Source(payloads(job.x), stalls[0]),
            "i_w": Source(payloads(job.w), stalls[1]),
        },
        sinks={"o": sink},
        expected={"o": job.expected},
        watch={"status": engine.status},
    )
    size = bench.interface.o_bytes
    raw = b"".join(payload.to_bytes(size, "little") for payload in sink.received)
    outputs = np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)
    return EmulatedRun(outputs, seen["cycles"], seen["status"], broken_handshakes=0)


def _installed():
    for simulator in SIMULATORS:
        try:
            check_simulator(simulator)
        except ToolError:
            if simulator != "icarus":
                raise
        else:
            yield simulator


@pytest.mark.parametrize("stalls", [(0.0, 0.0, 0.0), (0.3, 0.4, 0.5)], ids=["steady", "stalled"])
def test_simulators_agree(bench, stalls, make_layer):
    """Amaranth's simulator, Verilator and Icarus against the golden model and each other."""
    layers = _layers(bench, make_layer)
    job = bench.job(layers, stalls=stalls, seed=SEED)
    runs = {"amaranth": _amaranth(bench, job)}
    for simulator in _installed():
        (runs[simulator],) = bench.run([job], simulator)
    for name, run in runs.items():
        bench.check(run, layers, f"{bench.name} on {name}, stalls {stalls}, seed {SEED}")
        assert run.status == 0
    assert len({run.cycles for run in runs.values()}) == 1, {n: r.cycles for n, r in runs.items()}


@pytest.mark.parametrize("name", ["codings", "floats"])
def test_compiled_emulator_agrees(name, benches, make_layer):
    bench = benches[name]
    layers = _layers(bench, make_layer)
    job = bench.job(layers)
    (simulated,) = bench.run([job], "verilator")
    emulator = Emulator(bench.verilog, top=bench.name)
    emulated = emulator.run(
        job.x, job.w, expected=job.expected, output_bytes=bench.interface.o_bytes
    )
    assert emulated.broken_handshakes == 0
    assert np.array_equal(emulated.outputs, simulated.outputs)
    assert (emulated.cycles, emulated.status) == (simulated.cycles, simulated.status)
    bench.check(emulated, layers, f"{name} in the emulator, seed {SEED}")
