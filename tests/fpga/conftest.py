"""What the tests of a board's parts share."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from amaranth.sim import Simulator

from lutra.fpga import Fault, SimulatedBoard, find_board
from lutra.gen.board_verilog import BoardVerilog, generate_board


@pytest.fixture
def simulate() -> Callable[..., None]:
    """Clock a component under testbenches until the first ends."""

    def run(component: Any, bench: Any, *others: Any) -> None:
        simulator = Simulator(component)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        for other in others:
            simulator.add_testbench(other, background=True)
        simulator.run()

    return run


@functools.cache
def _design(name: str) -> BoardVerilog:
    return generate_board(find_board(name), divisor=4)


@pytest.fixture(scope="session")
def simulated() -> Callable[..., SimulatedBoard]:
    """Compile a board's whole top level once, and give it a line with faults."""

    def make(name: str, faults: Sequence[Fault] = ()) -> SimulatedBoard:
        design = _design(name)
        return SimulatedBoard(design.verilog, top=design.top, divisor=design.divisor, faults=faults)

    return make
