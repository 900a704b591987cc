"""A board's full top level, compiled, behind a pseudo-terminal: for the host, a serial port."""

import ctypes
import os
import pty
import threading
import tty
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ..sim.build_cache import cache_folder
from ..sim.engine_library import engine_library

__all__ = ["Fault", "SimulatedBoard"]

_BRIDGE = Path(__file__).with_name("bridge.cpp")


@dataclass(frozen=True)
class Fault:
    """Something that happens to one byte on the line.

    Parameters
    ----------
    direction : str
        ``to_board`` or ``to_host``.
    byte : int
        Number of the byte in that direction, from 0.
    flip : int
        Bits that change, 1 to 255; or 0, which loses the byte.
    """

    direction: str
    byte: int
    flip: int

    def __post_init__(self) -> None:
        if self.direction not in ("to_board", "to_host"):
            raise ValueError(f"direction must be 'to_board' or 'to_host', not {self.direction!r}")
        if self.byte < 0 or not 0 <= self.flip <= 255:
            raise ValueError(
                f"byte must be at least 0 and flip in 0..255, not {self.byte!r} and {self.flip!r}"
            )


class _FaultList(ctypes.Structure):
    _fields_ = [
        ("at", ctypes.c_void_p),
        ("how", ctypes.c_void_p),
        ("count", ctypes.c_uint64),
    ]


class SimulatedBoard:
    """A board that runs while a ``with`` block does.

    Parameters
    ----------
    verilog : str
        Text of all modules.
    top : str
        That of a :class:`BoardTop`.
    divisor : int
        Cycles of a bit, as the Verilog has it.
    faults : sequence of Fault
        What goes wrong on the line.
    cache : Path, optional
        Folder for compiled boards.
    progress : callable, optional
        Told in a few words what is being done, and how much of it from 0 to 1.

    Attributes
    ----------
    port : str
        Path of the pseudo-terminal, within the block.

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
        divisor: int,
        faults: Sequence[Fault] = (),
        cache: Path | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> None:
        library = engine_library(
            verilog,
            top=top,
            cache=cache or cache_folder(),
            progress=progress or (lambda *_: None),
            harness=_BRIDGE,
        )
        self._serve = ctypes.CDLL(str(library)).lutra_serve
        self._serve.restype = ctypes.c_uint64
        self._divisor, self._faults = divisor, faults
        self._stop = ctypes.c_int32(0)
        self.port = ""

    def __enter__(self) -> Self:
        # The far end stays open here too, or the near end would fail between two hosts.
        self._near, self._far = pty.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        self.port = os.ttyname(self._far)
        self._stop.value = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.value = 1
        self._thread.join()
        os.close(self._near)
        os.close(self._far)
        self.port = ""

    def _run(self) -> None:
        lists, kept = [], []
        for direction in ("to_board", "to_host"):
            own = sorted((f.byte, f.flip) for f in self._faults if f.direction == direction)
            at = np.array([byte for byte, _ in own], dtype=np.int64)
            how = np.array([flip for _, flip in own], dtype=np.uint8)
            kept += [at, how]  # while the library reads them
            lists.append(_FaultList(at.ctypes.data, how.ctypes.data, len(own)))
        self._serve(
            self._near,
            ctypes.c_uint32(self._divisor),
            *map(ctypes.byref, lists),
            ctypes.byref(self._stop),
        )
