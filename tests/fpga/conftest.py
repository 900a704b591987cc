"""What the tests of a board's parts share."""

from collections.abc import Callable
from typing import Any

import pytest
from amaranth.sim import Simulator


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
