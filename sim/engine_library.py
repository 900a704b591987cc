"""An engine's Verilog made into a shared library that a process can load."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .build_cache import cached_file
from .verilator import compiler, run_tool, verilator

__all__ = ["engine_library"]

Progress = Callable[[str, float], None]

_HARNESS = Path(__file__).with_name("emulator.cpp")
_TRANSLATE = (
    *("--cc", "--prefix", "Vengine", "-O3", "--x-assign", "fast", "--x-initial", "fast"),
    *("--noassert", "-Wno-fatal", "-Wno-lint", "--output-split", "20000"),
)
_FLAGS = ("-fPIC", "-std=c++17", "-fno-stack-protector", "-DVL_TIME_CONTEXT", "-w")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
_SLOW = "__Slow"  # how Verilator ends the names of files that run once, at the start
_BUNDLE_BYTES = 200_000


def engine_library(
    verilog: str, *, top: str, cache: Path, progress: Progress, harness: Path = _HARNESS
) -> Path:
    """Return the compiled engine, compiling it unless the cache has it.

    Parameters
    ----------
    verilog : str
        Text of all modules.
    top : str
        Module to compile.
    cache : Path
        Folder for compiled engines, and for Verilator's own part of them, which all share.
    progress : callable
        Told in a few words what is being done, and how much of it from 0 to 1.
    harness : Path
        C++ that drives the module; by default ``emulator.cpp``, for an engine's three streams.

    Returns
    -------
    Path
        A library with the harness's functions.

    Raises
    ------
    :exc:`ToolError`
        If Verilator or the compiler is missing or fails, or the cache cannot be written.
    """
    tools = (run_tool([verilator(), "--version"]), compiler(), *_FLAGS)
    return cached_file(
        "engine.so",
        (verilog, top, harness.read_text(), *_TRANSLATE, *tools),
        lambda folder: _compile(verilog, top, harness, folder, cache, tools, progress),
        cache=cache,
    )


def _compile(
    verilog: str,
    top: str,
    harness: Path,
    build: Path,
    cache: Path,
    tools: tuple[str, ...],
    progress: Progress,
) -> None:
    source = build / "engine.v"
    source.write_text(verilog)
    progress("translating Verilog", 0.0)
    run_tool([verilator(), *_TRANSLATE, "--top-module", top, "-Mdir", str(build), str(source)])

    include = Path(run_tool([verilator(), "--getenv", "VERILATOR_ROOT"]).strip()) / "include"
    runtime = [include / name for name in _RUNTIME]
    sources = [*runtime, *_bundles(build, harness)]
    done = 0

    def compile_one(path: Path) -> Path:
        nonlocal done
        if path in runtime:
            target = cached_file(
                f"{path.stem}.o", tools, lambda to: _object(path, to, include), cache=cache
            )
        else:
            target = _object(path, build, include)
        done += 1
        progress("compiling the engine", done / len(sources))
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = str(build / "engine.so")
    run_tool([compiler(), "-shared", "-pthread", "-o", library, *map(str, objects)])


def _bundles(build: Path, harness: Path) -> list[Path]:
    """Put small files together: most take less time than the headers that they include."""
    sources = sorted(build.glob("*.cpp"))
    slow = [source for source in sources if source.stem.endswith(_SLOW)]
    fast = [source for source in sources if source not in slow]
    return [*_bundle([harness, *fast], build, ""), *_bundle(slow, build, _SLOW)]


def _bundle(sources: list[Path], build: Path, suffix: str) -> list[Path]:
    bundles: list[Path] = []
    size = _BUNDLE_BYTES
    for source in sources:
        added = source.stat().st_size
        if size + added > _BUNDLE_BYTES:
            bundles.append(build / f"bundle_{len(bundles)}{suffix}.cpp")
            size = 0
        size += added
        with bundles[-1].open("a") as file:
            file.write(f'#include "{source}"\n')
    return bundles


def _object(source: Path, folder: Path, include: Path) -> Path:
    target = folder / f"{source.stem}.o"
    optimise = "-O0" if source.stem.endswith(_SLOW) else "-O2"
    paths = [f"-I{folder}", f"-I{include}", f"-I{include / 'vltstd'}"]
    run_tool([compiler(), optimise, *_FLAGS, *paths, "-c", str(source), "-o", str(target)])
    return target
