"""The runner and the driver themselves, on a small module written for it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lutra.sim import ProtocolError, ToolError
from lutra.sim.cocotb_runner import CocotbJob, check_simulator, run_cocotb

# Gives every activation back, 9 bits with a count of those since reset or clear in the upper four.
# The first weight chooses a fault.
ECHO = """
module echo(
    input clk, input rst, input clear,
    input [4:0] i_x__payload, input i_x__valid, output i_x__ready,
    input [3:0] i_w__payload, input i_w__valid, output i_w__ready,
    output [8:0] o__payload, output o__valid, input o__ready,
    output [4:0] status
);
  reg [3:0] fault = 0;
  reg [3:0] count = 0;
  reg [4:0] held = 0;
  reg full = 0, stalled = 0, chosen = 0;
  assign i_w__ready = !chosen;
  assign i_x__ready = chosen & (!full | o__ready) & !(fault == 3);
  assign o__valid = full & !(fault == 1 & stalled);
  assign o__payload = fault == 4 ? 9'bx : {count, held ^ (fault == 2 & stalled)};
  assign status = fault == 3 ? 5 : 0;
  always @(posedge clk) begin
    stalled <= o__valid & !o__ready;
    if (o__valid & o__ready) begin
      full <= 0;
      count <= count + 1;
    end
    if (i_x__valid & i_x__ready) begin
      full <= 1;
      held <= i_x__payload;
    end
    if (i_w__valid & i_w__ready) begin
      chosen <= 1;
      fault <= i_w__payload;
    end
    if (rst | clear) begin
      fault <= 0;
      count <= 0;
      full <= 0;
      stalled <= 0;
      chosen <= 0;
    end
  end
endmodule
"""
FINE, DROPS_VALID, CHANGES_PAYLOAD, STOPS, UNDEFINED = range(5)
VALUES = np.arange(12, dtype=np.uint8)


def _job(fault=FINE, **options):
    w = np.array([[fault]], dtype=np.uint8)
    return CocotbJob(x=VALUES[:, None], w=w, expected=len(VALUES), **options)


def _run(jobs, simulator, **options):
    return run_cocotb(ECHO, jobs, top="echo", simulator=simulator, **options)


def _counts(run):
    """Return the counts beside the values, which must be right."""
    payloads = run.outputs.copy().view("<u2")[:, 0]
    assert np.array_equal(payloads & 31, VALUES[: len(payloads)])
    return (payloads >> 5).tolist()


def test_streams_pass_unchanged(simulator):
    run, stalled = _run([_job(), _job(stalls=(0.5, 0.5, 0.5), seed=3)], simulator)
    assert _counts(run) == _counts(stalled) == list(range(12))
    assert run.outputs.dtype == np.uint8
    assert run.cycles == 14  # one for the choice, one from input to output
    assert stalled.cycles > 2 * run.cycles
    assert run.status == run.broken_handshakes == 0


def test_equal_seeds_give_equal_cycles(simulator):
    stalls = (0.4, 0.4, 0.4)
    first, second, other = _run([_job(stalls=stalls, seed=s) for s in (1, 1, 2)], simulator)
    assert first.cycles == second.cycles != other.cycles


def test_start(simulator):
    """Of the next job: from reset, after clear, or with the count where it was."""
    jobs = [_job(start=start) for start in ("continue", "reset", "clear")]
    # The choice of fault is made once, so what continues has no weights.
    going_on = CocotbJob(x=VALUES[:, None], w=jobs[0].w[:0], expected=12, start="continue")
    runs = _run([*jobs, going_on], simulator)
    assert [_counts(run)[0] for run in runs] == [0, 0, 0, 12]


def test_weights_repeat(simulator):
    """The module takes one weight only, so the rest waits, and nothing is lost."""
    (run,) = _run([_job(w_repeats=5)], simulator)
    assert len(_counts(run)) == 12


def test_cycles_run_out(simulator):
    (run,) = _run([_job(max_cycles=7)], simulator)
    assert run.cycles == 7
    assert _counts(run) == [0, 1, 2, 3, 4]


def test_status_error_stops(simulator):
    stopped, waited = _run(
        [_job(STOPS), _job(STOPS, stop_on_error=False, max_cycles=600)], simulator
    )
    assert (stopped.cycles, stopped.status) == (257, 5)  # the choice, and the time of grace
    assert (waited.cycles, waited.status) == (600, 5)
    assert not len(stopped.outputs)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (DROPS_VALID, r"^Stream o dropped valid before the transfer \(job 1, cycle \d+\)$"),
        (CHANGES_PAYLOAD, r"^Stream o changed its payload from 0x\w+ to 0x\w+ before"),
    ],
)
def test_broken_handshakes(simulator, fault, message):
    jobs = [_job(), _job(fault, stalls=(0.0, 0.0, 0.5), seed=4)]
    with pytest.raises(ProtocolError, match=message):
        _run(jobs, simulator)


def test_broken_handshakes_do_not_show_without_stalls(simulator):
    """The module is wrong only where it is stalled, so the test above tests the stalls too."""
    for run in _run([_job(DROPS_VALID), _job(CHANGES_PAYLOAD)], simulator):
        assert len(_counts(run)) == 12


def test_undefined_output(simulator):
    if simulator == "verilator":
        pytest.skip("Verilator knows 0 and 1 only")
    with pytest.raises(ProtocolError, match=r"^Port o__payload shows undefined bits: X{9} \(job"):
        _run([_job(UNDEFINED)], simulator)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start": "now"}, "start must be 'reset', 'clear' or 'continue', not 'now'"),
        ({"w_repeats": -1}, "w_repeats must be at least 0, not -1"),
        ({"max_cycles": -2}, "max_cycles must be at least 0, not -2"),
        (
            {"stalls": (0.0, 1.0, 0.0)},
            r"stalls must be three chances in 0\.\.1, 1 excluded, not \(0\.0, 1\.0, 0\.0\)",
        ),
    ],
)
def test_jobs_refuse(options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        _job(**options)


def test_jobs_refuse_other_arrays():
    with pytest.raises(
        ValueError, match=r"^x must be uint8 of shape \(beats, bytes\), not uint8 of shape \(12,\)$"
    ):
        CocotbJob(x=VALUES, w=VALUES[:, None], expected=0)


# -- the cache, the surroundings, and what can be missing ----------------------------------------


def test_second_run_builds_nothing(simulator, tmp_path):
    told = []

    def progress(what, share):
        told.append(what)

    for _ in range(2):
        _run([_job()], simulator, cache=tmp_path, progress=progress)
    assert told == ["building the simulation", "simulating", "simulating"]
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert "echo" in kept if simulator == "verilator" else "sim.vvp" in kept
    assert not list(tmp_path.rglob("build-*"))


def test_leaves_nothing_and_says_nothing(simulator, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "some where else"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COCOTB_TEST_FILTER", "none_of_these")
    monkeypatch.setenv("WAVES", "1")
    before = dict(os.environ)
    (run,) = _run([_job()], simulator)
    assert len(_counts(run)) == 12
    assert dict(os.environ) == before
    assert not list(folder.iterdir())
    assert capfd.readouterr() == ("", "")


def test_threads_take_turns(simulator):
    results = {}

    def play(seed):
        (results[seed],) = _run([_job(stalls=(0.3, 0.3, 0.3), seed=seed)], simulator)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(_counts(results[seed])) for seed in range(3)] == [12, 12, 12]


def test_verilog_that_does_not_compile(simulator):
    """Nothing of a failed build is kept: the second try fails as the first does."""
    broken = ECHO.replace("endmodule", "")
    for _ in range(2):
        with pytest.raises(ToolError, match=rf"(?s)^{simulator} failed: .*engine\.v"):
            run_cocotb(broken, [_job()], top="echo", simulator=simulator)


def test_missing_port(simulator):
    """A failure inside the simulator is told with what the simulator said."""
    other = ECHO.replace("i_w__payload", "i_v__payload")
    with pytest.raises(ToolError, match=r"(?s)^The simulation of echo broke off:\n.*i_w__payload"):
        run_cocotb(other, [_job()], top="echo", simulator=simulator)


def test_unknown_simulator():
    with pytest.raises(
        ValueError, match=r"^Simulator must be one of verilator, icarus, not 'ghdl'$"
    ):
        check_simulator("ghdl")


@pytest.mark.parametrize(
    ("simulator", "programs", "sentence"),
    [
        ("icarus", (), "Icarus Verilog was not found; install it with: apt install iverilog"),
        ("verilator", (), "No C++ compiler was found; install g++ or name one in CXX"),
        ("verilator", ("g++",), "make was not found; install it with: apt install make"),
    ],
)
def test_missing_programs(simulator, programs, sentence, tmp_path, monkeypatch):
    for name in programs:
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    script = (
        "from lutra.sim.cocotb_runner import check_simulator, ToolError\n"
        "try:\n"
        f"    check_simulator({simulator!r})\n"
        "except ToolError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{sentence}\n"


def test_cocotb_is_imported_only_where_it_runs(tmp_path):
    script = (
        "import sys, lutra.sim, lutra.sim.cocotb_runner\n"
        "print([name for name in sys.modules if name.startswith('cocotb')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[]\n"
    assert not list(Path(tmp_path).iterdir())
