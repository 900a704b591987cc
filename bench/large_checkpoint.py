"""A checkpoint of gigabytes: memory, time, and a run that is killed half way.

Run ``.venv/bin/python bench/large_checkpoint.py``. A sharded checkpoint of random numbers is
written, turned into a model file once, and once more by a process that is killed when half of the
layers are done and a second one that goes on. Both model files must be equal in every byte. Needs
about two and a half times the checkpoint's size on the disk; everything is removed at the end.
"""

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lutra.gen.console import number, print_line, print_table
from lutra.sim.sample_checkpoints import write_safetensors

ROWS = 4096
COLUMNS = 8192
SHARD_LAYERS = 4
COMMAND = (sys.executable, "-c", "from lutra.gen.cli import main; main()")
GIBIBYTE = 1 << 30


@dataclass(frozen=True)
class Measured:
    """What one process took: seconds, and bytes of memory beyond those of an idle one."""

    name: str
    seconds: float
    memory: int


def main() -> None:
    """Write, run, kill, go on, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of the checkpoint")
    parser.add_argument("--kind", choices=("float", "gptq"), default="float")
    parser.add_argument("--folder", help="where to work; default: that of temporary files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        size, layers = write(folder / "checkpoint", arguments.kind, arguments.gigabytes)
        options = ["--format", "int4"] if arguments.kind == "float" else []
        command = ["quantize", "checkpoint", "-o", "model", *options]
        idle = measure("idle", ["formats", "--json"], folder, 0)
        whole = measure("whole", command, folder, idle.memory)
        wanted = digest(folder / "model")
        (folder / "model").unlink()
        killed = measure("killed half way", command, folder, idle.memory, kill_at=layers // 2)
        rest = measure("the rest", command, folder, idle.memory)
        equal = digest(folder / "model") == wanted
    rows = [
        (item.name, number(item.seconds, 1, " s"), number(item.memory / GIBIBYTE, 3, " GiB"))
        for item in (whole, killed, rest)
    ]
    title = f"{arguments.kind}: {size / GIBIBYTE:.2f} GiB, {layers} layers of {ROWS} x {COLUMNS}"
    print_table(title, ("run", "time", "memory beyond an idle process"), rows)
    print_line(f"Idle process: {idle.memory / GIBIBYTE:.3f} GiB")
    print_line(f"Model files are {'equal' if equal else 'NOT equal'}")
    raise SystemExit(not equal)


def write(folder: Path, kind: str, gigabytes: float) -> tuple[int, int]:
    """Write a checkpoint in shards with their index; return its bytes and number of layers."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    first = _float_layer(rng) if kind == "float" else _gptq_layer(rng)
    layer_bytes = sum(array.nbytes for array in first.values())
    layers = max(2, round(gigabytes * 1e9 / layer_bytes))
    names: dict[str, str] = {}
    for start in range(0, layers, SHARD_LAYERS):
        shard = f"model-{start // SHARD_LAYERS:05}.safetensors"
        tensors = {
            f"model.layers.{layer}.mlp.up_proj.{name}": np.roll(array, layer, axis=1)
            for layer in range(start, min(start + SHARD_LAYERS, layers))
            for name, array in first.items()
        }
        write_safetensors(folder / shard, tensors)
        names |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    if kind == "gptq":
        config = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
        (folder / "quantize_config.json").write_text(json.dumps(config))
    return layer_bytes * layers, layers


def measure(
    name: str, command: list[str], folder: Path, idle: int, kill_at: int | None = None
) -> Measured:
    """Run ``lutra`` and wait; kill it when it has finished a number of layers."""
    start = time.perf_counter()
    journal = folder / ".model.partial.json"
    process = subprocess.Popen([*COMMAND, *command], cwd=folder, stdout=subprocess.DEVNULL)
    memory = 0
    while process.poll() is None:
        memory = max(memory, peak_memory(process.pid))
        done = journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0
        if kill_at is not None and done >= kill_at:
            process.kill()
            process.wait()
        time.sleep(0.01)
    if process.returncode != (0 if kill_at is None else -9):
        raise SystemExit(f"lutra {' '.join(command)} ended with {process.returncode}")
    return Measured(name, time.perf_counter() - start, memory - idle)


def peak_memory(process: int) -> int:
    """Return the most bytes of memory that a process has had, 0 when it is gone."""
    # Not what wait() reports: that begins with the memory of whoever started the process.
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _float_layer(rng: np.random.Generator) -> dict[str, npt.NDArray]:
    return {"weight": rng.standard_normal((ROWS, COLUMNS), dtype=np.float32).astype(np.float16)}


def _gptq_layer(rng: np.random.Generator) -> dict[str, npt.NDArray]:
    words = 1 << 32
    groups = COLUMNS // 128
    return {
        "qweight": rng.integers(0, words, (COLUMNS // 8, ROWS), dtype=np.uint32),
        "qzeros": rng.integers(0, words, (groups, ROWS // 8), dtype=np.uint32),
        "scales": rng.uniform(0.01, 0.1, (groups, ROWS)).astype(np.float16),
    }


if __name__ == "__main__":
    main()
