"""An engine in a Verilog simulator, under cocotb: built, kept in a cache, and run on jobs."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .build_cache import cache_folder, cached_file
from .emulator import EmulatedRun
from .handshake import ProtocolError
from .verilator import ToolError, compiler, run_tool, verilator, verilator_environment

__all__ = ["SIMULATORS", "CocotbJob", "check_simulator", "run_cocotb"]

SIMULATORS = ("verilator", "icarus")

# What the driver inside the simulator finds in its environment: names of files.
JOBS_VARIABLE = "LUTRA_COCOTB_JOBS"
RUNS_VARIABLE = "LUTRA_COCOTB_RUNS"

_DRIVER = "lutra.sim.cocotb_driver"
_LOG = "simulator.log"
_TIMESCALE = ("1ns", "1ps")  # Amaranth's Verilog has none
# Only the top module's ports are made visible: hiding the rest compiles and runs in half the time.
_RUNTIME = ("verilated", "verilated_dpi", "verilated_threads", "verilated_vpi")
_RUNTIME_FLAGS = (
    *("-Os", "-w", "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0"),
    *(f"-DVM_TRACE{kind}=0" for kind in ("", "_FST", "_SAIF", "_VCD")),
)
_VERILATOR_FLAGS = (
    *("-Wno-fatal", "-Wno-lint", "--no-public-flat-rw", "--public-depth", "1"),
    *("-LDFLAGS", " ".join(f"{name}.o" for name in _RUNTIME)),
)
# Comes after the runner's own `-g2012`, under which Icarus sets initial values before any process
# can see them change: logic that depends on nothing else would stay undefined.
_ICARUS_FLAGS = ("-g2005",)
# What would change a run behind the caller's back if it were set outside.
_FOREIGN = ("COCOTB_", "GPI_", "PYGPI_", "PYTEST_", "WAVES", "GUI", "MAKEFLAGS", "MFLAGS")
_LOCK = threading.Lock()


@dataclass(frozen=True, kw_only=True, eq=False)
class CocotbJob:
    """Streams to play on an engine, and how.

    Parameters
    ----------
    x, w : uint8 array, shape (beats, bytes)
        Payloads of ``i_x`` and ``i_w``, lowest bits first; of one layer or of several in a row.
    expected : int
        Outputs to wait for.
    w_repeats : int
        How often the weights pass.
    stalls : three floats
        Chance of a stalled cycle at ``i_x``, ``i_w`` and ``o``.
    seed : int
        Of the stalls.
    start : str
        ``reset``; ``clear``, by the engine's command; or ``continue`` where the job before ended.
        The first job of a run always starts from reset.
    stop_on_error : bool
        End soon after the engine's status shows an error, instead of waiting for the outputs.
    max_cycles : int, optional
        Give up after these; by default, well over what any layer needs.

    Raises
    ------
    :exc:`ValueError`
        If a field is not as stated.
    """

    x: npt.NDArray[np.uint8]
    w: npt.NDArray[np.uint8]
    expected: int
    w_repeats: int = 1
    stalls: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seed: int = 1
    start: str = "reset"
    stop_on_error: bool = True
    max_cycles: int | None = None

    def __post_init__(self) -> None:
        if self.start not in ("reset", "clear", "continue"):
            raise ValueError(f"start must be 'reset', 'clear' or 'continue', not {self.start!r}")
        for name in ("x", "w"):
            beats = getattr(self, name)
            if beats.ndim != 2 or beats.dtype != np.uint8:
                raise ValueError(
                    f"{name} must be uint8 of shape (beats, bytes), "
                    f"not {beats.dtype} of shape {beats.shape}"
                )
        for name in ("expected", "w_repeats", "max_cycles"):
            value = getattr(self, name) or 0
            if value < 0:
                raise ValueError(f"{name} must be at least 0, not {value!r}")
        if len(self.stalls) != 3 or not all(0 <= chance < 1 for chance in self.stalls):
            raise ValueError(
                f"stalls must be three chances in 0..1, 1 excluded, not {self.stalls!r}"
            )

    @property
    def cycle_limit(self) -> int:
        """Cycles after which the job ends in any case."""
        if self.max_cycles is not None:
            return self.max_cycles
        return 100_000 + 400 * (len(self.x) + len(self.w) * self.w_repeats + self.expected)


def run_cocotb(
    verilog: str,
    jobs: Sequence[CocotbJob],
    *,
    top: str,
    simulator: str = "verilator",
    driver: str = _DRIVER,
    cache: Path | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[EmulatedRun]:
    """Play jobs on an engine, one after the other in one simulation.

    Every output stream is checked for the handshake's rules. What Python does for every cycle makes
    this slow; for volume there is the :class:`Emulator`.

    Parameters
    ----------
    verilog : str
        Text of all modules.
    jobs : sequence of CocotbJob
        What to play.
    top : str
        Module to simulate; it has the streams ``i_x``, ``i_w`` and ``o``, ``clear`` and ``status``.
    simulator : str
        ``verilator`` or ``icarus``.
    driver : str
        The module with the cocotb test that plays the jobs; it decides what ports ``top`` has.
    cache : Path, optional
        Folder for built simulations, one a hash of text and tools.
    progress : callable, optional
        Told in a few words what is being done, and how much of it from 0 to 1.

    Returns
    -------
    list of EmulatedRun
        One a job. Its cycles do not include reset and clear.

    Raises
    ------
    :exc:`ValueError`
        If the simulator is not one of these.
    :exc:`ToolError`
        If a program that is needed is missing or fails, or the cache cannot be written.
    :exc:`ProtocolError`
        If the engine's output breaks the handshake's rules or is undefined when offered.
    """
    check_simulator(simulator)
    report = progress or (lambda *_: None)
    built = _built(verilog, top, simulator, cache or cache_folder(), report)
    report("simulating", 0.0)
    with tempfile.TemporaryDirectory(prefix="lutra-cocotb-") as folder:
        return _simulate(built, jobs, top, simulator, driver, Path(folder))


def check_simulator(simulator: str) -> None:
    """Check that a simulator and all that it needs are installed.

    Raises
    ------
    :exc:`ValueError`
        If it is not one of :data:`SIMULATORS`.
    :exc:`ToolError`
        If something is missing; the sentence says how to install it.
    """
    if simulator not in SIMULATORS:
        raise ValueError(f"Simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    if importlib.util.find_spec("cocotb_tools") is None:
        raise ToolError("cocotb was not found; install it with: pip install 'lutra[sim]'")
    if _python_library() is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ToolError(
            f"cocotb needs Python's shared library, which was not found; install libpython{version}"
        )
    if simulator == "icarus":
        if not (shutil.which("iverilog") and shutil.which("vvp")):
            raise ToolError("Icarus Verilog was not found; install it with: apt install iverilog")
        return
    verilator()
    compiler()
    if not shutil.which("make"):
        raise ToolError("make was not found; install it with: apt install make")


@functools.cache
def _python_library() -> str | None:
    import find_libpython

    return find_libpython.find_libpython()


# -- jobs and runs as files ----------------------------------------------------------------------


def write_jobs(jobs: Sequence[CocotbJob], path: Path) -> None:
    """Write jobs for the driver inside the simulator."""
    arrays = {}
    options = []
    for index, job in enumerate(jobs):
        arrays[f"x_{index}"], arrays[f"w_{index}"] = job.x, job.w
        options.append({name: getattr(job, name) for name in _OPTIONS})
    _write_arrays(path, arrays, options)


def read_jobs(path: Path) -> list[CocotbJob]:
    """Read what :func:`write_jobs` wrote."""
    with np.load(path) as arrays:
        return [
            CocotbJob(
                x=arrays[f"x_{index}"],
                w=arrays[f"w_{index}"],
                **(options | {"stalls": tuple(options["stalls"])}),
            )
            for index, options in enumerate(json.loads(str(arrays["notes"])))
        ]


def write_runs(runs: Sequence[EmulatedRun], broken: str | None, path: Path) -> None:
    """Write the results of jobs, and what broke the last one if it was broken off."""
    arrays = {f"outputs_{index}": run.outputs for index, run in enumerate(runs)}
    counts = [(run.cycles, run.status) for run in runs]
    _write_arrays(path, arrays, {"runs": counts, "broken": broken})


def read_runs(path: Path) -> list[EmulatedRun]:
    """Read what :func:`write_runs` wrote.

    Raises
    ------
    :exc:`ProtocolError`
        If a job was broken off by one.
    """
    with np.load(path) as arrays:
        notes = json.loads(str(arrays["notes"]))
        if notes["broken"] is not None:
            raise ProtocolError(notes["broken"])
        return [
            EmulatedRun(arrays[f"outputs_{index}"], cycles, status, broken_handshakes=0)
            for index, (cycles, status) in enumerate(notes["runs"])
        ]


_OPTIONS = ("expected", "w_repeats", "stalls", "seed", "start", "stop_on_error", "max_cycles")


def _write_arrays(path: Path, arrays: Mapping[str, npt.NDArray], notes: Any) -> None:
    beside = path.with_suffix(".part")
    everything: dict[str, Any] = {"notes": np.array(json.dumps(notes)), **arrays}
    with beside.open("wb") as file:
        np.savez(file, **everything)
    beside.replace(path)


# -- building and running ------------------------------------------------------------------------


def _built(
    verilog: str, top: str, simulator: str, cache: Path, progress: Callable[[str, float], None]
) -> Path:
    """Return the built simulation, one file, building it unless the cache has it."""
    from cocotb_tools import config

    def build(folder: Path) -> None:
        progress("building the simulation", 0.0)
        source = folder / "engine.v"
        source.write_text(verilog)
        if simulator == "verilator":
            _lay_runtime(folder, cache)
        with _runner(simulator, folder) as runner:
            runner.build(
                sources=[source],
                hdl_toplevel=top,
                build_args=_flags(simulator),
                build_dir=folder,
                timescale=_TIMESCALE,
                log_file=folder / _LOG,
            )

    # The Verilated program knows by its path the library of cocotb that it loads.
    cocotb = (importlib.metadata.version("cocotb"), str(config.libs_dir))
    parts = (verilog, top, *_tools(simulator), *cocotb, *_flags(simulator))
    return cached_file(_product(top, simulator), parts, build, cache=cache)


def _tools(simulator: str) -> tuple[str, ...]:
    if simulator == "verilator":
        return run_tool([verilator(), "--version"]), compiler()
    return (_icarus_version(shutil.which("iverilog") or ""),)


@functools.cache
def _icarus_version(program: str) -> str:
    done = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _lay_runtime(folder: Path, cache: Path) -> None:
    """Put Verilator's own objects into a build folder: over half of a build if made each time."""
    include = Path(run_tool([verilator(), "--getenv", "VERILATOR_ROOT"]).strip()) / "include"
    paths = (f"-I{include}", f"-I{include / 'vltstd'}")

    def compiled(name: str) -> Path:
        def build(to: Path) -> None:
            source, target = include / f"{name}.cpp", to / f"{name}.o"
            run_tool([compiler(), *_RUNTIME_FLAGS, *paths, "-c", str(source), "-o", str(target)])

        return cached_file(f"{name}.o", (*_tools("verilator"), *_RUNTIME_FLAGS), build, cache=cache)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in pool.map(compiled, _RUNTIME):
            (folder / path.name).symlink_to(path.resolve())


def _simulate(
    built: Path,
    jobs: Sequence[CocotbJob],
    top: str,
    simulator: str,
    driver: str,
    folder: Path,
) -> list[EmulatedRun]:
    jobs_file, runs_file = folder / "jobs.npz", folder / "runs.npz"
    write_jobs(jobs, jobs_file)
    (folder / _product(top, simulator)).symlink_to(built.resolve())
    with _runner(simulator, folder) as runner:
        runner.test(
            test_module=driver,
            hdl_toplevel=top,
            hdl_toplevel_lang="verilog",
            build_dir=folder,
            test_dir=folder,
            extra_env={
                JOBS_VARIABLE: str(jobs_file),
                RUNS_VARIABLE: str(runs_file),
                "COCOTB_REWRITE_ASSERTION_FILES": "",  # nothing of pytest is wanted in there
                "COCOTB_ANSI_OUTPUT": "0",
            },
            log_file=folder / _LOG,
        )
    if not runs_file.is_file():
        raise ToolError(f"The simulation of {top} broke off:\n{_tail(folder / _LOG)}")
    return read_runs(runs_file)


def _flags(simulator: str) -> tuple[str, ...]:
    return _VERILATOR_FLAGS if simulator == "verilator" else _ICARUS_FLAGS


def _product(top: str, simulator: str) -> str:
    """Return where cocotb's runner has the one file that it needs to run."""
    return top if simulator == "verilator" else "sim.vvp"


@contextlib.contextmanager
def _runner(simulator: str, folder: Path) -> Iterator[Any]:
    """Lend cocotb's runner, with the environment that it reads, and name its failures.

    The runner reads this process's environment and no other, so callers take turns.
    """
    from cocotb_tools.runner import get_runner

    with _LOCK:
        before = dict(os.environ)
        try:
            _set_environment(_environment(simulator, folder))
            runner = get_runner(simulator)
            runner.log.disabled = True  # what went wrong is said once, below
            yield runner
        except (RuntimeError, SystemExit) as error:
            raise ToolError(f"{simulator} failed: {error}\n{_tail(folder / _LOG)}") from error
        finally:
            _set_environment(before)


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _environment(simulator: str, folder: Path) -> dict[str, str]:
    inherited = verilator_environment() if simulator == "verilator" else dict(os.environ)
    environment = {k: v for k, v in inherited.items() if not k.startswith(_FOREIGN)}
    if simulator == "verilator":
        # The runner looks for this name, which in the wheel is that of a Perl script.
        programs = folder / "bin"
        programs.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (programs / "verilator").symlink_to(verilator())
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        # The wheel's makefile was configured on another machine; the runtime is compiled already.
        settings = {
            "CXX": compiler(),
            "LINK": compiler(),
            "PYTHON3": sys.executable,
            "CFG_CXXFLAGS_PCH_I": "-include",
            "VM_GLOBAL_FAST": "",
            "VM_GLOBAL_SLOW": "",
        }
        environment["MAKEFLAGS"] = " ".join(
            f"{name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items()
        )
    return environment


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-12:])
