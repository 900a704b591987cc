"""Damaged checkpoints: every importer must end with a sentence, whatever the files say.

Run ``.venv/bin/python bench/fuzz_imports.py``. Small checkpoints of every importer are cut off,
changed in single bytes, in numbers and names of their headers and in their configurations, and are
read. Anything but a ``ValueError`` of one sentence is a fault: another exception, a warning, more
than a second, or more than a gibibyte.
"""

import argparse
import importlib
import io
import json
import resource
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lutra.gen.console import print_line, print_table, progress_bar
from lutra.quant import Checkpoint
from lutra.quant.imports import CheckpointSource, detect_importer
from lutra.sim.more_sample_checkpoints import ALL_SAMPLES

MEMORY = 1 << 30
SECONDS = 1.0
# What replaces a number or a text of JSON.
VALUES: tuple[Any, ...] = (
    *(0, 1, 2, 3, 5, 7, 8, 16, 31, 32, 33, 64, 255, -1, -2, 1 << 31, 1 << 32, 1 << 62, 1 << 63),
    *(1 << 64, 10**30, 0.5, 1e308, float("nan"), float("inf"), True, None, "", "x", "gptq"),
    *("gptq_v2", "awq", "gemm", "compressed-tensors", "bitsandbytes", "modelopt", "mxfp4", "fp8"),
    *("group", "channel", "tensor", "int", "float", "NVFP4", [], {}, [1], [2, 2], {"a": 1}),
)
# Bytes of an element, by its type.
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2}
SIZES |= dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1)
DTYPES = (*SIZES, "X", "F4", "C64")
# Bytes of NaN, infinity and extremes, in several types.
PATTERNS = (b"\xff" * 8, b"\x00" * 8, b"\x00\x7c" * 4, b"\x80\x7f" * 4, b"\x7f" * 8, b"\x80" * 8)


def main() -> None:
    """Damage, read, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    names = list(ALL_SAMPLES)
    parser.add_argument("--samples", nargs="+", default=names, choices=names)
    arguments = parser.parse_args()
    limit_memory()
    counts: dict[str, Counter[str]] = {name: Counter() for name in arguments.samples}
    faults = 0
    with progress_bar() as progress, tempfile.TemporaryDirectory() as folder:
        for index, (name, outcome) in enumerate(
            run(arguments.cases, arguments.seed, arguments.samples, Path(folder))
        ):
            progress(name, index / arguments.cases)
            counts[name][outcome.partition("\n")[0].partition(":")[0]] += 1
            if outcome not in ("read", "refused"):
                faults += 1
                print_line(f"{name}, case {index}: {outcome}")
    kinds = sorted({kind for count in counts.values() for kind in count})
    rows = [(name, *(count[kind] for kind in kinds)) for name, count in counts.items()]
    print_table(f"{arguments.cases:,} damaged checkpoints", ("checkpoint", *kinds), rows)
    raise SystemExit(faults > 0)


def limit_memory() -> None:
    """Let this process have some more memory than it has, so that a lie ends it."""
    importlib.import_module("torch")  # maps more than that, which is not the checkpoints' fault
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def run(cases: int, seed: int, names: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the sample and the outcome of every case."""
    originals = {name: files_of(name, folder / str(at)) for at, name in enumerate(names)}
    place = folder / "case"
    place.mkdir()
    for case in range(cases):
        rng = np.random.default_rng((seed, case))
        name = names[case % len(names)]
        files = damaged(originals[name], rng)
        for path, content in files.items():
            (place / path).write_bytes(content)
        yield name, outcome_of(place / entry_of(files))
        for path in files:
            (place / path).unlink(missing_ok=True)


def entry_of(files: dict[str, bytes]) -> str:
    """Return what a user would name: the folder, or the one file that is in it."""
    return next(iter(files)) if len(files) == 1 else "."


def files_of(name: str, folder: Path) -> dict[str, bytes]:
    """Return the files of a sample, by their names."""
    sample = ALL_SAMPLES[name](folder, np.random.default_rng(1))
    paths = [sample.path] if sample.path.is_file() else sorted(sample.path.iterdir())
    return {path.name: path.read_bytes() for path in paths}


def outcome_of(path: Path) -> str:
    """Read every layer of a checkpoint; say ``read``, ``refused`` or what went wrong."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(path)
        found = "read"
    except ValueError as error:
        sentence = str(error)
        found = "refused" if sentence and "\n" not in sentence else f"no sentence: {sentence!r}"
    except Exception:
        found = f"fault: {traceback.format_exc()}"
    if time.perf_counter() - start > SECONDS:
        return f"slow: {time.perf_counter() - start:.1f} s, {found}"
    return found


def read(path: Path) -> None:
    """Do what ``lutra quantize`` does before it writes."""
    source = CheckpointSource(path)
    found = detect_importer(source)
    if found is None:
        for layer in Checkpoint(source).layers():
            layer.weights.sum()
        return
    importer = found(source)
    for layer in importer.layers:
        importer.size(layer)
        importer.tensors(layer)
        importer.read(layer)
    importer.left_out  # noqa: B018


def damaged(files: dict[str, bytes], rng: np.random.Generator) -> dict[str, bytes]:
    """Return a sample's files with one or a few changes."""
    changed = dict(files)
    for _ in range(int(rng.integers(1, 4))):
        name = str(rng.choice(list(changed)))
        content = changed[name]
        ways: list[Callable[[bytes, np.random.Generator], bytes]] = [cut, flip, overwrite]
        if name.endswith(".json"):
            ways += [change_json] * 30
        if name.endswith(".safetensors"):
            ways += [change_header] * 3 + [change_tensor] * 20
        way = ways[int(rng.integers(len(ways)))]
        changed[name] = way(content, rng)
    return changed


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Drop the end."""
    return content[: int(rng.integers(len(content) + 1))]


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes."""
    array = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        if array:
            array[int(rng.integers(len(array)))] = int(rng.integers(256))
    return bytes(array)


def overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    """Put a pattern somewhere."""
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    at = int(rng.integers(len(content) + 1))
    return content[:at] + pattern + content[at + len(pattern) :]


def change_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a value of a JSON object, or take a key out."""
    try:
        root = json.loads(content)
    except ValueError:
        return content
    places = list(_places(root))
    if not places:
        return content
    parent, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.2 and isinstance(parent, dict):
        del parent[key]
    else:
        parent[key] = VALUES[int(rng.integers(len(VALUES)))]
    return json.dumps(root).encode()


def change_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Let the header of a safetensors file say something else than the data."""
    tensors = _tensors(content)
    if not tensors:
        return content
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    entry = header[str(rng.choice(list(tensors)))]
    way = int(rng.integers(3))
    if way == 0:
        entry["dtype"] = str(rng.choice(DTYPES))
    elif way == 1 and entry["shape"]:
        at = int(rng.integers(len(entry["shape"])))
        entry["shape"][at] = int(rng.choice([0, 1, 2, 7, 1 << 20, 1 << 40, 1 << 62]))
    else:
        entry["data_offsets"][int(rng.integers(2))] = int(rng.choice([0, 1, 8, 1 << 40, 1 << 62]))
    return _framed(header, content[8 + int.from_bytes(content[:8], "little") :])


def change_tensor(content: bytes, rng: np.random.Generator) -> bytes:
    """Change one tensor so that the file is as safetensors should be."""
    tensors = _tensors(content)
    if not tensors:
        return content
    name = str(rng.choice(list(tensors)))
    dtype, shape, data = tensors[name]
    size = SIZES.get(dtype, 1)
    way = int(rng.integers(9))
    if way == 0:
        shape = shape[::-1]
    elif way == 1:
        shape = [len(data) // size]
    elif way == 2:
        shape = [1, *shape] if rng.random() < 0.5 else [*shape, 1]
    elif way == 3:  # the same bytes as another type
        dtype = str(rng.choice(list(SIZES)))
        shape = [len(data) // SIZES[dtype]]
        data = data[: shape[0] * SIZES[dtype]]
    elif way == 4:  # fewer rows, or none
        rows = int(rng.integers(shape[0] + 1)) if shape else 0
        data = data[: len(data) // max(shape[0], 1) * rows] if shape else data
        shape = [rows, *shape[1:]] if shape else shape
    elif way == 5:  # one number in place of another
        at = int(rng.integers(max(len(data) // size, 1))) * size
        data = data[:at] + PATTERNS[int(rng.integers(len(PATTERNS)))][:size] + data[at + size :]
    elif way == 6:  # twice as much
        data, shape = data * 2, [2 * shape[0], *shape[1:]] if shape else [2]
    del tensors[name]
    if way != 7:
        tensors[name if way != 8 else f"{name}x"] = dtype, shape, data
    header, position, parts = {}, 0, []
    for key, (kind, sizes, part) in tensors.items():
        offsets = [position, position + len(part)]
        header[key] = {"dtype": kind, "shape": sizes, "data_offsets": offsets}
        position += len(part)
        parts.append(part)
    return _framed(header, b"".join(parts))


def _tensors(content: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    """Return the tensors of a safetensors file that is not damaged yet; none of another."""
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        return {
            name: (
                str(entry["dtype"]),
                [int(size) for size in entry["shape"]],
                content[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
            )
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}


def _framed(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def change_gguf(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a byte or put a number into the header of a GGUF file."""
    end = content.find(bytes(32)) if rng.random() < 0.2 else min(len(content), 900)
    at = int(rng.integers(4, max(5, end)))
    new = (
        bytes([int(rng.integers(256))])
        if rng.random() < 0.7
        else int(rng.choice([0, 1, 2, 5, 255, 1 << 31, 1 << 40, 1 << 62])).to_bytes(8, "little")
    )
    return content[:at] + new + content[at + len(new) :]


def change_archive(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a member of a file of torch.save, so that the archive stays one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError):
        return content
    name = str(rng.choice([*members, *[item for item in members if item.endswith(".pkl")] * 8]))
    way = [cut, flip, overwrite, _flip_one, _flip_one][int(rng.integers(5))]
    members[name] = way(members[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return stream.getvalue()


def _flip_one(content: bytes, rng: np.random.Generator) -> bytes:
    if not content:
        return content
    at = int(rng.integers(len(content)))
    return content[:at] + bytes([int(rng.integers(256))]) + content[at + 1 :]


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a JSON value, as a container and a key."""
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


if __name__ == "__main__":
    main()
