"""The cocotb test that plays jobs on an engine's AXI4-Stream ports. It runs in the simulator."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiStreamBus, AxiStreamSink, AxiStreamSource

from .cocotb_runner import JOBS_VARIABLE, RUNS_VARIABLE, CocotbJob, read_jobs, write_runs
from .emulator import EmulatedRun
from .handshake import StallPattern

__all__ = ["play_axis_jobs"]

_PERIOD_NS = 10


@cocotb.test()
async def play_axis_jobs(dut: Any) -> None:
    """Play the jobs that the environment names, each from reset; write what came of them.

    In these jobs a beat is the bytes of ``tdata`` and one more, which is ``tlast``.
    """
    Clock(dut.aclk, _PERIOD_NS, "ns").start()
    runs = [await _play(dut, job) for job in read_jobs(Path(os.environ[JOBS_VARIABLE]))]
    write_runs(runs, None, Path(os.environ[RUNS_VARIABLE]))


async def _play(dut: Any, job: CocotbJob) -> EmulatedRun:
    dut.clear.value = 0
    dut.aresetn.value = 0
    ends = [
        AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_x"), dut.aclk),
        AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_w"), dut.aclk),
        AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis_o"), dut.aclk),
    ]
    for index, (end, chance) in enumerate(zip(ends, job.stalls, strict=True)):
        end.set_pause_generator(_pauses(StallPattern(chance, 3 * job.seed + index)))
    await ClockCycles(dut.aclk, 2)
    dut.aresetn.value = 1
    await RisingEdge(dut.aclk)
    began = get_sim_time("ns")
    for end, beats, repeats in ((ends[0], job.x, 1), (ends[1], job.w, job.w_repeats)):
        for _ in range(repeats):
            for frame in _frames(beats):
                end.send_nowait(frame)
    received = []
    while sum(map(len, received)) < job.expected:
        frame = await with_timeout(ends[2].recv(), job.cycle_limit * _PERIOD_NS, "ns")
        data = np.frombuffer(bytes(frame.tdata), np.uint8).reshape(-1, ends[2].byte_lanes)
        last = np.arange(len(data)) == len(data) - 1
        received.append(np.hstack([data, last[:, np.newaxis].astype(np.uint8)]))
    cycles = round((get_sim_time("ns") - began) / _PERIOD_NS)
    return EmulatedRun(np.vstack(received), cycles, int(dut.status.value), broken_handshakes=0)


def _pauses(pattern: StallPattern) -> Iterator[bool]:
    while True:
        yield pattern.stalled()


def _frames(beats: npt.NDArray[np.uint8]) -> list[bytes]:
    """Part beats where ``tlast`` is set."""
    ends = np.flatnonzero(beats[:, -1]) + 1
    return [part[:, :-1].tobytes() for part in np.split(beats, ends) if len(part)]
