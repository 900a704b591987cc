"""``--conformance FILE`` notes down what the tests of this folder compare."""

import csv
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", metavar="FILE", help="append what was compared, as CSV")


@pytest.fixture
def record_cell(request: pytest.FixtureRequest):
    """Return what notes one comparison down."""
    path = request.config.getoption("--conformance")

    def record(*cells: Any) -> None:
        if path is None:
            return
        # Workers append whole short lines, which do not mix.
        with Path(path).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)

    return record
