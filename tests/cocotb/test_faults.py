"""Faults planted in the generated Verilog: each must be noticed by the check made for it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lutra.sim import ProtocolError, adversarial_tokens, random_matrix

SEED = 31


@pytest.fixture
def victim(benches, make_layer):
    """Choose the engine that suffers, and two layers that it computes rightly as it is."""
    bench = benches["codings"]
    x = np.stack(list(adversarial_tokens(bench.numerics, 40, seed=SEED).values()))
    layers = [
        make_layer(f"seed {seed}", random_matrix("bcq2", 5, 40, 16, seed=seed), x)
        for seed in (SEED, SEED + 1)
    ]
    return bench, layers


def _plant(verilog, module, pattern, replacement):
    """Change one module's text; the pattern must be there."""
    start = re.search(rf"^module {module} *\(", verilog, flags=re.MULTILINE)
    assert start, f"no module {module}"
    end = verilog.index("endmodule", start.start())
    body, count = re.subn(pattern, replacement, verilog[start.start() : end], flags=re.MULTILINE)
    assert count, f"{pattern!r} is not in {module}"
    return verilog[: start.start()] + body + verilog[end:]


def _run(victim, simulator, verilog, **options):
    bench, layers = victim
    job = bench.job(layers, max_cycles=20_000, **options)
    (run,) = bench.run([job], simulator, verilog=verilog)
    return run


def test_without_a_fault(victim, simulator):
    bench, layers = victim
    bench.check(_run(victim, simulator, bench.verilog), layers, "as generated")


def test_wrong_sum(victim, simulator):
    bench, layers = victim
    faulty = _plant(bench.verilog, f"{bench.name}_lane__lane__rows", r" \+ ", " - ")
    run = _run(victim, simulator, faulty)
    with pytest.raises(AssertionError, match="outputs differ"):
        bench.check(run, layers, "row sums subtracted")


def test_single_wrong_bit(victim, simulator):
    """The lowest bit of the row sums is stuck at 0."""
    bench, layers = victim
    faulty = _plant(
        bench.verilog,
        f"{bench.name}_lane__lane__rows",
        r"= out__data;$",
        r"= out__data & ~1;",
    )
    run = _run(victim, simulator, faulty)
    with pytest.raises(AssertionError, match="outputs differ"):
        bench.check(run, layers, "lowest bit stuck")


def test_unchecked_checksum(victim, simulator):
    bench, layers = victim
    faulty = _plant(
        bench.verilog,
        f"{bench.name}__core__unpack__checksum",
        r"\S*given\S* != \S*crc\S*;",
        "1'h0;",
    )
    job = bench.job(layers)
    corrupted = job.w.copy()
    corrupted[-2, 0] ^= 0x10  # a weight of a real row and column
    job = replace(job, w=corrupted)
    (right,) = bench.run([job], simulator)
    (wrong,) = bench.run([job], simulator, verilog=faulty)
    assert right.status & 7 == 5
    assert wrong.status & 7 == 0
    assert len(right.outputs) < len(wrong.outputs) == job.expected
    with pytest.raises(AssertionError, match="outputs differ"):
        bench.check(wrong, layers, "checksum not compared")


def test_broken_output_handshake(victim, simulator):
    """An output that depends on an input's valid is withdrawn when the input pauses."""
    bench, _ = victim
    top = bench.name
    faulty = _plant(
        bench.verilog, top, r"\.o__valid\(o__valid\)", ".o__valid(o__valid_before_fault)"
    )
    faulty = _plant(
        faulty,
        top,
        r"^  wire o__valid;$",
        "  wire o__valid, o__valid_before_fault;\n"
        "  assign o__valid = o__valid_before_fault & i_w__valid;",
    )
    with pytest.raises(ProtocolError, match=r"Stream o dropped valid .* \(job 0, cycle \d+\)$"):
        _run(victim, simulator, faulty, stalls=(0.0, 0.5, 0.5), seed=SEED)
