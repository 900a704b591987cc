import gc
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lutra.sim import Emulator, ToolError, engine_library
from lutra.sim.build_cache import cache_folder, cached_file

# A stand-in for an engine that compiles in seconds: one output for each pair of inputs, their sum
# and the number of outputs since reset. Its status says `busy`, whether an input broke the rules of
# its handshake, and an error. Faults are put in by the parameters.
ENGINE = """
module engine #(parameter W = 8, DROP = 0, CHANGE = 0, LIMIT = 0) (
    input clk, input rst, input clear, output [4:0] status,
    input i_x__valid, output i_x__ready, input [W-1:0] i_x__payload,
    input i_w__valid, output i_w__ready, input [W-1:0] i_w__payload,
    output o__valid, input o__ready, output [W-1:0] o__payload);
  reg full, odd;
  reg [15:0] count;
  reg [W-1:0] sum;
  reg broke, x_waits, w_waits;
  reg [W-1:0] x_was, w_was;
  wire stopped = LIMIT != 0 && count == LIMIT;
  wire free = (!full || (o__ready && o__valid)) && !stopped;
  wire take = i_x__valid && i_w__valid && free;
  assign i_x__ready = take;
  assign i_w__ready = take;
  assign o__valid = full && !(DROP != 0 && odd);
  assign o__payload = sum + (CHANGE != 0 && odd);
  assign status = {full, broke, stopped ? 3'd5 : 3'd0};
  always @(posedge clk) begin
    odd <= !odd;
    if (o__ready && o__valid) full <= 0;
    if (take) begin
      full <= 1;
      sum <= i_x__payload + i_w__payload + count;
      count <= count + 1;
    end
    x_waits <= i_x__valid && !i_x__ready;
    w_waits <= i_w__valid && !i_w__ready;
    x_was <= i_x__payload;
    w_was <= i_w__payload;
    if (x_waits && (!i_x__valid || i_x__payload != x_was)) broke <= 1;
    if (w_waits && (!i_w__valid || i_w__payload != w_was)) broke <= 1;
    if (rst || clear) begin
      full <= 0; count <= 0; odd <= 0; broke <= 0; x_waits <= 0; w_waits <= 0;
    end
  end
endmodule
"""


def engine(**parameters):
    text = ENGINE
    for name, value in parameters.items():
        text = re.sub(rf"\b{name} = \d+", f"{name} = {value}", text)
    return text


def payloads(count, size=1, *, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, size), dtype=np.uint8)


def expected_sums(x, w, *, first=0):
    """Return what the stand-in owes, by Python's integers."""
    size = x.shape[1]
    sums = [
        int.from_bytes(a.tobytes(), "little") + int.from_bytes(b.tobytes(), "little") + first + n
        for n, (a, b) in enumerate(zip(x, w, strict=True))
    ]
    raw = b"".join((value % (1 << 8 * size)).to_bytes(size, "little") for value in sums)
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)


@pytest.fixture(scope="session")
def plain():
    return Emulator(engine(), top="engine")


@pytest.fixture
def cache(plain, tmp_path):
    """Give a test a cache of its own, with only the parts that all engines share."""
    for folder in {file.parent for file in cache_folder().glob("*/*.o")}:
        shutil.copytree(folder, tmp_path / "cache" / folder.name)
    return tmp_path / "cache"


def products(cache):
    return [path for path in cache.glob("*/*") if path.suffix not in (".o", ".sha256")]


# -- running --------------------------------------------------------------------------------------


def test_without_stalls_every_cycle_counts(plain):
    x, w = payloads(50), payloads(50, seed=2)
    run = plain.run(x, w, expected=50, output_bytes=1)
    assert np.array_equal(run.outputs, expected_sums(x, w))
    assert run.cycles == 51  # the first output is there one cycle after its inputs
    assert run.status == 0
    assert run.broken_handshakes == 0


@pytest.mark.parametrize("stalls", [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.3, 0.6, 0.9)])
def test_stalls_change_nothing_but_the_time(plain, stalls):
    x, w = payloads(500), payloads(500, seed=2)
    run = plain.run(x, w, expected=500, output_bytes=1, stalls=stalls)
    assert np.array_equal(run.outputs, expected_sums(x, w))
    # The slowest stream decides, and stalls of several add up at most.
    slowest, all_of_them = max(stalls), sum(chance / (1 - chance) for chance in stalls)
    assert 0.85 * 500 / (1 - slowest) < run.cycles < 1.25 * 500 * (1 + all_of_them)
    assert run.broken_handshakes == 0
    assert run.status == 0  # nor did the inputs break any rule


def test_seeds_repeat_and_differ(plain):
    x, w = payloads(300), payloads(300, seed=2)

    def cycles(seed):
        return plain.run(
            x, w, expected=300, output_bytes=1, stalls=(0.5, 0.5, 0.5), seed=seed
        ).cycles

    assert cycles(1) == cycles(1)
    assert len({cycles(seed) for seed in range(10)}) > 5


def test_small_chances_are_small_from_the_first_cycle_on(plain):
    x = payloads(1)
    cycles = [
        plain.run(x, x, expected=1, output_bytes=1, stalls=(0.1, 0, 0), seed=seed).cycles
        for seed in range(100)
    ]
    assert 80 <= cycles.count(2) < 100


@pytest.mark.parametrize("width", [4, 40, 40_000])
def test_payloads_of_every_size(width):
    emulator = Emulator(engine(W=width), top="engine")
    size = -(-width // 8)
    x, w = payloads(5, size), payloads(5, size, seed=2)
    run = emulator.run(x, w, expected=5, output_bytes=size, stalls=(0, 0, 0.5))
    wanted = expected_sums(x, w).copy()
    if width % 8:
        wanted[:, -1] &= (1 << width % 8) - 1
    assert np.array_equal(run.outputs, wanted)
    assert run.broken_handshakes == 0


def test_bits_that_are_not_given_are_zero():
    emulator = Emulator(engine(W=40_000), top="engine")
    wide = np.full((1, 5000), 255, dtype=np.uint8)
    nothing = np.zeros((1, 5000), dtype=np.uint8)
    emulator.run(wide, nothing, expected=1, output_bytes=5000)
    run = emulator.run(wide[:, :3], nothing[:, :1], expected=1, output_bytes=5000)
    assert run.outputs[0, :3].tolist() == [255, 255, 255]
    assert not run.outputs[0, 3:].any()


def test_weights_pass_again_and_again(plain):
    x, w = payloads(12), payloads(4, seed=2)
    run = plain.run(x, w, expected=12, output_bytes=1, w_repeats=3, stalls=(0.2, 0.2, 0.2))
    assert np.array_equal(run.outputs, expected_sums(x, np.tile(w, (3, 1))))


def test_a_run_without_reset_goes_on(plain):
    x, w = payloads(10), payloads(10, seed=2)
    plain.run(x, w, expected=10, output_bytes=1)
    on = plain.run(x, w, expected=10, output_bytes=1, reset=False)
    assert np.array_equal(on.outputs, expected_sums(x, w, first=10))
    again = plain.run(x, w, expected=10, output_bytes=1)
    assert np.array_equal(again.outputs, expected_sums(x, w))


def test_nothing_expected_takes_no_time(plain):
    empty = np.zeros((0, 1), dtype=np.uint8)
    run = plain.run(empty, empty, expected=0, output_bytes=1)
    assert run.outputs.shape == (0, 1)
    assert run.cycles == 0


def test_outputs_that_never_come(plain):
    x, empty = payloads(3), np.zeros((0, 1), dtype=np.uint8)
    run = plain.run(x, empty, expected=3, output_bytes=1, max_cycles=1000)
    assert run.outputs.shape == (0, 1)
    assert run.cycles == 1000
    some = plain.run(x, x, expected=9, output_bytes=1, max_cycles=1000)
    assert np.array_equal(some.outputs, expected_sums(x, x))
    assert plain.run(x, x, expected=3, output_bytes=1, max_cycles=0).cycles == 0
    assert plain.run(x, x, expected=4, output_bytes=1).cycles == 100_000 + 400 * 10


def test_an_error_ends_the_run_soon():
    emulator = Emulator(engine(LIMIT=6), top="engine")
    x = payloads(20)
    run = emulator.run(x, x, expected=20, output_bytes=1)
    assert run.status == 5
    assert np.array_equal(run.outputs, expected_sums(x[:6], x[:6]))
    assert run.cycles == 6 + 2  # it is not busy any more
    slow = emulator.run(x, x, expected=20, output_bytes=1, stalls=(0, 0, 0.9))
    assert len(slow.outputs) == 6  # while it was busy, its outputs were waited for


@pytest.mark.parametrize("fault", ["DROP", "CHANGE"])
def test_broken_handshakes_are_counted(fault):
    emulator = Emulator(engine(**{fault: 1}), top="engine")
    x = payloads(100)
    arguments: dict[str, Any] = {"expected": 100, "output_bytes": 1}
    assert emulator.run(x, x, **arguments, stalls=(0, 0, 0.5)).broken_handshakes > 10
    # Whoever never waits cannot see it.
    assert emulator.run(x, x, **arguments).broken_handshakes == 0


def test_arrays_may_be_views_that_nobody_keeps(plain):
    base = payloads(40, 4)
    for _ in range(20):
        run = plain.run(base[::2, 1:2], base[::-2, 2:3].copy(), expected=20, output_bytes=1)
        gc.collect()
        assert np.array_equal(run.outputs, expected_sums(base[::2, 1:2], base[::-2, 2:3]))


def test_emulators_of_one_engine_are_apart(plain):
    x = payloads(5)
    other = Emulator(engine(), top="engine")
    plain.run(x, x, expected=5, output_bytes=1)
    other.run(x, x, expected=5, output_bytes=1)
    del other
    gc.collect()
    on = plain.run(x, x, expected=5, output_bytes=1, reset=False)
    assert np.array_equal(on.outputs, expected_sums(x, x, first=5))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"x": np.zeros(3, np.uint8)}, "x must be uint8 of shape (beats, bytes), not uint8 of "),
        ({"w": np.zeros((3, 1), np.int8)}, "w must be uint8 of shape (beats, bytes), not int8 of "),
        ({"expected": -1}, "expected must be at least 0, not -1"),
        ({"w_repeats": -1}, "w_repeats must be at least 0, not -1"),
        ({"max_cycles": -5}, "max_cycles must be at least 0, not -5"),
        ({"output_bytes": 0}, "output_bytes must be at least 1, not 0"),
        ({"stalls": (0, 1, 0)}, "stalls must be three chances in 0..1, 1 excluded, not (0, 1, 0)"),
        ({"stalls": (0.5, 0)}, "stalls must be three chances in 0..1, 1 excluded, not (0.5, 0)"),
    ],
)
def test_arguments_are_checked(plain, changes, sentence):
    arguments = {"x": payloads(3), "w": payloads(3), "expected": 3, "output_bytes": 1}
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        plain.run(**(arguments | changes))


# -- compiling and keeping ------------------------------------------------------------------------


def test_a_compiled_engine_is_found_again(cache, monkeypatch):
    said = []
    Emulator(
        engine(),
        top="engine",
        cache=cache,
        progress=lambda words, share: said.append((words, share)),
    )
    assert said[0] == ("translating Verilog", 0.0)
    assert said[-1] == ("compiling the engine", 1.0)
    assert [path.name for path in products(cache)] == ["engine.so"]

    def refuse(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(engine_library, "_compile", refuse)
    found = Emulator(engine(), top="engine", cache=cache)
    x = payloads(3)
    run = found.run(x, x, expected=3, output_bytes=1)
    assert np.array_equal(run.outputs, expected_sums(x, x))
    with pytest.raises(AssertionError, match="compiled again"):
        Emulator(engine() + "\n", top="engine", cache=cache)
    assert len(products(cache)) == 1


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "unsealed"])
def test_a_damaged_engine_is_compiled_again(cache, damage):
    Emulator(engine(), top="engine", cache=cache)
    (library,) = products(cache)
    seal = library.with_name("engine.so.sha256")
    whole = library.read_bytes()
    library.unlink()  # and not in place: this process has it open
    if damage == "truncated":
        library.write_bytes(whole[: len(whole) // 2])
    elif damage == "overwritten":
        library.write_bytes(whole.replace(b"lutra_run", b"nothing__"))
    else:
        library.write_bytes(whole)
        seal.unlink()

    said = []
    Emulator(engine(), top="engine", cache=cache, progress=lambda words, share: said.append(words))
    assert "compiling the engine" in said
    assert [path.name for path in products(cache)] == ["engine.so"]
    assert seal.read_text() == hashlib.sha256(library.read_bytes()).hexdigest()
    assert b"lutra_run" in library.read_bytes()


def test_two_processes_compile_once(cache):
    text = (
        "import sys; from pathlib import Path; from lutra.sim import Emulator\n"
        "Emulator(sys.stdin.read(), top='engine', cache=Path(sys.argv[1]),"
        " progress=lambda words, share: print(words))"
    )
    command = [sys.executable, "-c", text, str(cache)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(engine())
        process.stdin.close()
    said = []
    for process in processes:
        assert process.stdout is not None
        with process.stdout:
            said.append(process.stdout.read())
        assert process.wait() == 0
    assert sorted("translating" in words for words in said) == [False, True]
    assert [path.name for path in products(cache)] == ["engine.so"]


def test_verilog_that_does_not_compile(cache):
    with pytest.raises(ToolError, match=r"failed with status 1:\n%Error: .*wier") as caught:
        Emulator(engine().replace("wire take", "wier take"), top="engine", cache=cache)
    assert len(str(caught.value).splitlines()) < 20
    assert products(cache) == []


def test_a_module_without_the_streams(cache):
    with pytest.raises(ToolError, match=r"failed with status 1:\n"):
        Emulator("module engine(input clk); endmodule", top="engine", cache=cache)
    assert products(cache) == []


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    def build(folder):
        (folder / "it").write_text("built")

    (entry,) = [cached_file("it", ["a"], build, cache=tmp_path).parent]
    (entry / "it").unlink()
    (entry / "build-old").mkdir()
    (entry / "build-old" / "part").write_text("half")
    assert cached_file("it", ["a"], build, cache=tmp_path).read_text() == "built"
    assert sorted(path.name for path in entry.iterdir()) == ["it", "it.sha256"]


def test_what_a_file_depends_on_keeps_files_apart(tmp_path):
    def build(folder):
        (folder / "it").write_text(str(next(numbers)))

    numbers = iter(range(10))
    made = [cached_file("it", parts, build, cache=tmp_path) for parts in (["ab"], ["a", "b"])]
    assert [path.read_text() for path in made] == ["0", "1"]
    assert cached_file("it", ["ab"], build, cache=tmp_path).read_text() == "0"


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    wanted = (
        f"Compiled engines cannot be kept in {tmp_path / 'file'}: Not a directory; "
        "set XDG_CACHE_HOME to a folder that can be written"
    )
    with pytest.raises(ToolError, match=f"^{re.escape(wanted)}$"):
        Emulator(engine(), top="engine", cache=tmp_path / "file")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lutra"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lutra"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ToolError, match=r"^There is no home folder .*; set XDG_CACHE_HOME to a f"):
        cache_folder()


def test_every_core_helps(cache, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: None)  # as on a system that cannot say
    assert Emulator(engine(), top="engine", cache=cache)
