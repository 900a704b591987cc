"""A compiled engine: whole streams in, whole streams out, millions of cycles a minute."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .build_cache import cache_folder
from .engine_library import engine_library

__all__ = ["EmulatedRun", "Emulator", "cache_folder"]


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
        If Verilator or the compiler is missing or fails, or the cache cannot be written.
    """

    def __init__(
        self,
        verilog: str,
        *,
        top: str,
        cache: Path | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> None:
        library = engine_library(
            verilog,
            top=top,
            cache=cache or cache_folder(),
            progress=progress or (lambda *_: None),
        )
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
            Chance of a stalled cycle at ``i_x``, ``i_w`` and ``o``; 0 to below 1.
        seed : int
            Of the stalls; runs with equal seeds stall in the same cycles.
        reset : bool
            Start from reset; otherwise go on where the last run ended.
        max_cycles : int, optional
            Give up after these; by default, well over what any layer needs.

        Returns
        -------
        EmulatedRun

        Raises
        ------
        :exc:`ValueError`
            If an argument is not as stated.
        """
        x, w = _payloads("x", x), _payloads("w", w)
        for name, value in (
            ("expected", expected),
            ("w_repeats", w_repeats),
            ("max_cycles", max_cycles or 0),
        ):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, not {value!r}")
        if output_bytes < 1:
            raise ValueError(f"output_bytes must be at least 1, not {output_bytes!r}")
        if len(stalls) != 3 or not all(0 <= chance < 1 for chance in stalls):
            raise ValueError(f"stalls must be three chances in 0..1, 1 excluded, not {stalls!r}")

        outputs = np.zeros((expected, output_bytes), dtype=np.uint8)
        limit = max_cycles
        if limit is None:
            limit = 100_000 + 400 * (len(x) + len(w) * w_repeats + expected)
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


def _payloads(name: str, array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a stream's payloads as they must lie in memory."""
    if array.ndim != 2 or array.dtype != np.uint8:
        raise ValueError(
            f"{name} must be uint8 of shape (beats, bytes), "
            f"not {array.dtype} of shape {array.shape}"
        )
    return np.ascontiguousarray(array)
