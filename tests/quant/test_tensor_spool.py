"""Killed runs: what is left, and what the next run makes of it."""

import contextlib
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.quant import FileError, ModelWriter, Recipe, quantize, quantize_file
from lutra.quant.tensor_spool import TensorSpool

RECIPE = Recipe(format="int4", group_size=16)
JOB = {"recipe": "of the tests"}


def layers(count=4):
    rng = np.random.default_rng(7)
    return {
        f"l{at}": quantize(rng.standard_normal((4, 40 + at)), format="int4", group_size=16)
        for at in range(count)
    }


def whole(path, matrices):
    with ModelWriter(path) as writer:
        for name, matrix in matrices.items():
            writer.add(name, matrix)
    return path.read_bytes()


def interrupt(path, matrices, count, job=JOB):
    """Write some layers and stop, as an interrupt does."""
    with contextlib.suppress(KeyboardInterrupt), ModelWriter(path, job=job) as writer:
        for name in list(matrices)[:count]:
            writer.add(name, matrices[name])
        raise KeyboardInterrupt


def finish(path, matrices, job=JOB):
    """Write what is not there yet; return what was, and the file."""
    with ModelWriter(path, job=job) as writer:
        there = writer.layers
        for name, matrix in matrices.items():
            if name not in there:
                writer.add(name, matrix)
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    return there, path.read_bytes()


@pytest.mark.parametrize("count", range(5))
def test_an_interrupted_run_is_gone_on_with(tmp_path, count):
    matrices = layers()
    wanted = whole(tmp_path / "m", matrices)
    (tmp_path / "m").unlink()
    interrupt(tmp_path / "m", matrices, count)
    there, found = finish(tmp_path / "m", matrices)
    assert there == tuple(matrices)[:count]
    assert found == wanted


def test_another_job_begins_anew(tmp_path):
    matrices = layers()
    wanted = whole(tmp_path / "m", matrices)
    interrupt(tmp_path / "m", matrices, 2, job={"recipe": "another"})
    assert finish(tmp_path / "m", matrices) == ((), wanted)


@pytest.mark.parametrize("cut", [1, 2, 60, 150])
@pytest.mark.parametrize("which", [".m.partial", ".m.partial.json"])
def test_what_was_cut_off_is_done_again(tmp_path, which, cut):
    matrices = layers()
    wanted = whole(tmp_path / "m", matrices)
    interrupt(tmp_path / "m", matrices, 3)
    path = tmp_path / which
    path.write_bytes(path.read_bytes()[:-cut])
    there, found = finish(tmp_path / "m", matrices)
    assert len(there) < 3
    assert found == wanted


@pytest.mark.parametrize("at", [0, 100, 300])
def test_what_was_damaged_is_done_again(tmp_path, at):
    matrices = layers()
    wanted = whole(tmp_path / "m", matrices)
    interrupt(tmp_path / "m", matrices, 3)
    path = tmp_path / ".m.partial"
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    there, found = finish(tmp_path / "m", matrices)
    assert len(there) < 3
    assert found == wanted


def test_lines_that_lie_are_not_believed(tmp_path):
    matrices = layers()
    wanted = whole(tmp_path / "m", matrices)
    interrupt(tmp_path / "m", matrices, 1)
    path = tmp_path / ".m.partial.json"
    first, second = path.read_text().splitlines()
    entry = json.loads(second)
    for change in (
        {"tensors": [["x", "F32", [10**15]]]},
        {"tensors": [["x", "F99", [1]]]},
        {"tensors": 5},
        {"tensors": [["x", "U8", [-1]]]},
        {"crc32": "x"},
    ):
        path.write_text(f"{first}\n{json.dumps(entry | change)}\n")
        assert finish(tmp_path / "m", matrices) == ((), wanted)
        interrupt(tmp_path / "m", matrices, 1)


def test_an_error_leaves_nothing_behind(tmp_path):
    with contextlib.suppress(ValueError), ModelWriter(tmp_path / "m", job=JOB) as writer:
        writer.add("a", layers(1)["l0"])
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_mix(tmp_path):
    spool = TensorSpool(tmp_path / "m", JOB)
    with pytest.raises(FileError, match=r"another process is at it, with .*\.m\.partial$"):
        TensorSpool(tmp_path / "m", JOB)
    spool.close(keep=False)
    TensorSpool(tmp_path / "m", JOB).close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_command_is_gone_on_with(tmp_path):
    rng = np.random.default_rng(3)
    tensors = {
        f"l{at:02}.weight": rng.standard_normal((512, 2048), dtype=np.float32) for at in range(12)
    }
    save_file(tensors, tmp_path / "c")
    quantize_file(tmp_path / "c", tmp_path / "whole", RECIPE)
    program = "from lutra.gen.cli import main; main()"
    command = [sys.executable, "-c", program, "quantize", "c", "-o", "m"]
    command += ["--format", "int4", "--group-size", "16"]
    journal = tmp_path / ".m.partial.json"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") > 3:
                process.kill()
                break
            time.sleep(0.005)
    assert process.returncode == -9
    assert not (tmp_path / "m").exists()
    kept = journal.read_bytes().count(b"\n") - 1
    assert 3 <= kept < 12
    quantize_file(tmp_path / "c", tmp_path / "m", RECIPE)
    assert (tmp_path / "m").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not journal.exists()
