"""A compiled engine: whole streams in, whole streams out, millions of cycles a minute."""

import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .verilator import compiler, run_tool, verilator

__all__ = ["EmulatedRun", "Emulator", "cache_folder"]

_HARNESS = Path(__file__).with_name("emulator.cpp")
_FLAGS = ("-fPIC", "-std=c++17", "-fno-stack-protector", "-DVL_TIME_CONTEXT", "-w")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")


class _Input(ctypes.Structure):
    _fields_ = [
        ("bytes", ctypes.c_void_p),
        ("count", ctypes.c_uint64),
        ("repeats", ctypes.c_uint64),
        ("stride", ctypes.c_uint64),
    ]


class _Output(ctypes.Structure):
    _fields_ = [
        ("bytes", ctypes.c_void_p),
        ("expected", ctypes.c_uint64),
        ("stride", ctypes.c_uint64),
    ]


class _Options(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        ("stall_x", ctypes.c_uint32),
        ("stall_w", ctypes.c_uint32),
        ("stall_o", ctypes.c_uint32),
        ("reset", ctypes.c_uint32),
        ("max_cycles", ctypes.c_uint64),
    ]


class _Result(ctypes.Structure):
    _fields_ = [
        ("cycles", ctypes.c_uint64),
        ("outputs", ctypes.c_uint64),
        ("taken_x", ctypes.c_uint64),
        ("taken_w", ctypes.c_uint64),
        ("status", ctypes.c_uint32),
        ("broken_handshakes", ctypes.c_uint32),
    ]


@dataclass(frozen=True, eq=False)
class EmulatedRun:
    """What came out of one run.

    Parameters
    ----------
    outputs : uint8 array, shape (count, bytes)
        Output payloads, as many as came.
    cycles : int
        Clock cycles until the last of them was taken.
    status : int
        The engine's status word at the end.
    broken_handshakes : int
        Cycles in which the output stream withdrew or changed an offer.
    """

    outputs: npt.NDArray[np.uint8]
    cycles: int
    status: int
    broken_handshakes: int


class Emulator:
    """One engine, compiled by Verilator and a C++ compiler and kept in a cache.

    Parameters
    ----------
    verilog : str
        Text of all modules.
    top : str
        Module to compile; it has the streams ``i_x``, ``i_w`` and ``o``, ``clear`` and ``status``.
    cache : Path, optional
        Folder for compiled engines, one a hash of text, harness and tools.
    progress : callable, optional
        Told in a few words what is being done, and how much of it from 0 to 1.

    Raises
    ------
    :exc:`ToolError`
        If Verilator or the compiler is missing or fails.
    """

    def __init__(
        self,
        verilog: str,
        *,
        top: str,
        cache: Path | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> None:
        library = _library(verilog, top, cache or cache_folder(), progress or (lambda *_: None))
        self._functions = ctypes.CDLL(str(library))
        self._functions.lutra_create.restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(self._functions.lutra_create())
        self._fresh = True

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._functions.lutra_destroy(self._handle)

    def run(
        self,
        x: npt.NDArray[np.uint8],
        w: npt.NDArray[np.uint8],
        *,
        expected: int,
        output_bytes: int,
        w_repeats: int = 1,
        stalls: tuple[float, float, float] = (0.0, 0.0, 0.0),
        seed: int = 1,
        reset: bool = True,
        max_cycles: int | None = None,
    ) -> EmulatedRun:
        """Clock the engine until everything expected has come, it stops, or the cycles run out.

        Parameters
        ----------
        x, w : uint8 array, shape (beats, bytes)
            Payloads of the two input streams.
        expected : int
            Outputs to wait for.
        output_bytes : int
            Bytes of one output payload.
        w_repeats : int
            How often the weights pass, once for each token.
        stalls : three floats
            Chance of a stalled cycle at ``i_x``, ``i_w`` and ``o``.
        seed : int
            Of the stalls.
        reset : bool
            Start from reset; otherwise go on where the last run ended.
        max_cycles : int, optional
            Give up after these; by default, well over what any layer needs.

        Returns
        -------
        EmulatedRun
        """
        x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
        outputs = np.zeros((expected, output_bytes), dtype=np.uint8)
        limit = max_cycles or 100_000 + 400 * (len(x) + len(w) * w_repeats + expected)
        inputs = [
            _Input(a.ctypes.data, len(a), repeats, a.shape[1])
            for a, repeats in ((x, 1), (w, w_repeats))
        ]
        output = _Output(outputs.ctypes.data, expected, output_bytes)
        chances = [int(chance * 2**32) for chance in stalls]
        options = _Options(seed, *chances, int(reset or self._fresh), limit)
        result = _Result()
        self._functions.lutra_run(
            self._handle, *map(ctypes.byref, (*inputs, output, options, result))
        )
        self._fresh = False
        return EmulatedRun(
            outputs[: result.outputs], result.cycles, result.status, result.broken_handshakes
        )


def cache_folder() -> Path:
    """Return the folder for compiled engines, under the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lutra"


def _library(verilog: str, top: str, cache: Path, progress: Callable[[str, float], None]) -> Path:
    """Return the compiled engine, compiling it unless the cache has it."""
    version = run_tool([verilator(), "--version"])
    parts = (verilog, top, _HARNESS.read_text(), version, compiler(), *_FLAGS)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    library = cache / f"{digest}.so"
    if library.is_file():
        return library

    cache.mkdir(parents=True, exist_ok=True)
    build = Path(tempfile.mkdtemp(prefix="build-", dir=cache))
    try:
        compiled = _compile(verilog, top, build, progress)
        compiled.replace(library)  # whole or not at all, whoever else compiles the same
    finally:
        shutil.rmtree(build, ignore_errors=True)
    return library


def _compile(verilog: str, top: str, build: Path, progress: Callable[[str, float], None]) -> Path:
    source = build / "engine.v"
    source.write_text(verilog)
    progress("translating Verilog", 0.0)
    run_tool([
        verilator(), "--cc", "--prefix", "Vengine", "--top-module", top, "-Mdir", str(build),
        "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-Wno-fatal", "-Wno-lint",
        "--output-split", "20000", str(source),
    ])  # fmt: skip

    include = Path(run_tool([verilator(), "--getenv", "VERILATOR_ROOT"]).strip()) / "include"
    sources = [*sorted(build.glob("*.cpp")), *(include / name for name in _RUNTIME), _HARNESS]
    paths = [f"-I{build}", f"-I{include}", f"-I{include / 'vltstd'}"]
    done = 0

    def compile_one(path: Path) -> Path:
        nonlocal done
        target = build / f"{path.stem}.o"
        # Verilator calls those files slow that run once, at the start.
        optimise = "-O0" if path.stem.endswith("__Slow") else "-O2"
        run_tool([compiler(), optimise, *_FLAGS, *paths, "-c", str(path), "-o", str(target)])
        done += 1
        progress("compiling the engine", done / len(sources))
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = build / "engine.so"
    run_tool([compiler(), "-shared", "-pthread", "-o", str(library), *map(str, objects)])
    return library
