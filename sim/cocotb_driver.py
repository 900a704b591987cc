"""The cocotb test that plays jobs on an engine. It runs inside the simulator."""

import os
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Timer

from .cocotb_runner import JOBS_VARIABLE, RUNS_VARIABLE, CocotbJob, read_jobs, write_runs
from .emulator import EmulatedRun
from .handshake import ProtocolError, Sink, Source, StallPattern

__all__ = ["play_jobs"]

_ERROR_MASK = 0b111  # of the status word
_GRACE = 256  # cycles after an error, for outputs of layers finished before it


@cocotb.test()
async def play_jobs(dut: Any) -> None:
    """Play the jobs that the environment names and write what came of them."""
    runs: list[EmulatedRun] = []
    broken = None
    for index, job in enumerate(read_jobs(Path(os.environ[JOBS_VARIABLE]))):
        bench = _Bench(dut, job)
        try:
            runs.append(await bench.play(job.start if index else "reset"))
        except ProtocolError as error:
            broken = f"{error} (job {index}, cycle {bench.cycles})"
            break
    write_runs(runs, broken, Path(os.environ[RUNS_VARIABLE]))


class _InputEnd:
    """A source at the ports of an input stream."""

    def __init__(self, dut: Any, name: str, source: Source) -> None:
        self._source = source
        self._valid = dut[f"{name}__valid"]
        self._ready = dut[f"{name}__ready"]
        self._payload = dut[f"{name}__payload"]
        self._driven: tuple[bool, int] | None = None

    def drive(self) -> None:
        offered = (self._source.valid, self._source.payload)
        if offered != self._driven:
            self._valid.value, self._payload.value = int(offered[0]), offered[1]
            self._driven = offered

    def sample(self) -> None:
        self._source.observe(_defined(self._ready) != 0)


class _OutputEnd:
    """A sink at the ports of an output stream."""

    def __init__(self, dut: Any, name: str, sink: Sink) -> None:
        self.sink = sink
        self._valid = dut[f"{name}__valid"]
        self._ready = dut[f"{name}__ready"]
        self._payload = dut[f"{name}__payload"]

    def drive(self) -> None:
        self._ready.value = int(self.sink.ready)

    def sample(self) -> None:
        valid = _defined(self._valid) != 0
        self.sink.observe(valid, _defined(self._payload) if valid else 0)

    def received(self) -> np.ndarray:
        size = -(-len(self._payload) // 8)
        raw = b"".join(payload.to_bytes(size, "little") for payload in self.sink.received)
        return np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)


class _Bench:
    """One job's ends of the streams, and the clock.

    Inputs change with the falling edge of the clock; everything is sampled just before the rising
    edge, when all has settled.
    """

    def __init__(self, dut: Any, job: CocotbJob) -> None:
        self._dut = dut
        self._job = job
        self._half = Timer(5, "ns")
        self.cycles = 0
        stalls = [StallPattern(p, 3 * job.seed + index) for index, p in enumerate(job.stalls)]
        self._inputs = [
            _InputEnd(dut, "i_x", Source(_payloads(job.x, 1), stalls[0])),
            _InputEnd(dut, "i_w", Source(_payloads(job.w, job.w_repeats), stalls[1])),
        ]
        self._output = _OutputEnd(dut, "o", Sink(stalls[2], name="o"))

    async def play(self, start: str) -> EmulatedRun:
        """Run from the start to the end of the job."""
        job, dut = self._job, self._dut
        await self._begin(start)
        ends = [*self._inputs, self._output]
        received = self._output.sink.received
        limit, grace = job.cycle_limit, _GRACE
        while len(received) < job.expected and self.cycles < limit and grace:
            dut.clk.value = 0
            for end in ends:
                end.drive()
            await self._half
            for end in ends:
                end.sample()
            if job.stop_on_error and _defined(dut.status) & _ERROR_MASK:
                grace -= 1
            dut.clk.value = 1
            await self._half
            self.cycles += 1
        status = _defined(dut.status)
        return EmulatedRun(self._output.received(), self.cycles, status, broken_handshakes=0)

    async def _begin(self, start: str) -> None:
        """Set every input; then one cycle of reset or clear if asked for."""
        dut = self._dut
        dut.clk.value = 0
        dut.rst.value = int(start == "reset")
        dut.clear.value = int(start == "clear")
        for name in ("i_x", "i_w"):
            dut[f"{name}__valid"].value = 0
            dut[f"{name}__payload"].value = 0
        dut.o__ready.value = 0
        if start != "continue":
            await self._half
            dut.clk.value = 1
            await self._half
        dut.rst.value = 0
        dut.clear.value = 0


def _payloads(raw: np.ndarray, repeats: int) -> Iterator[int]:
    words = [int.from_bytes(row.tobytes(), "little") for row in raw]
    return chain.from_iterable(repeat(words, repeats))


def _defined(handle: Any) -> int:
    """Return a port's value.

    Raises
    ------
    :exc:`ProtocolError`
        If a bit of it is undefined.
    """
    value = handle.value
    try:
        return int(value)
    except ValueError:
        raise ProtocolError(f"Port {handle._name} shows undefined bits: {value}") from None
