"""What tests of all folders share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lutra.formats import CATALOG, NumberFormat

_TESTS = Path(__file__).parent
# Where a test of a family may take long, families that resemble another one are slow tests.
_LONG = ("cocotb", "formal", "gen", "gpu", "hdl")
_RESEMBLING = {
    name
    for name in CATALOG
    if (name.startswith(("float", "free")) or name.endswith("_affine"))
    and name not in ("float4_e2m1", "float4_e3m0", "float6_e3m2", "int4_affine", "free3")
} | {"ant4", "flint4", "iq4_nl", "power3", "power4"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of such families, which their parameters name."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        folder = item.path.relative_to(_TESTS).parts[0] if item.path.is_relative_to(_TESTS) else ""
        names = re.split(r"[\[\]-]", item.name) + [v for v in parameters.values() if v is str(v)]
        if folder in _LONG and not _RESEMBLING.isdisjoint(names):
            item.add_marker(pytest.mark.slow)


def _by_stream_code(item: NumberFormat, table: npt.ArrayLike) -> npt.NDArray[Any]:
    """Rearrange what a format has for each code, along the last axis, as the stream numbers them.

    What hardware is given as code is the stream's number.
    """
    table = np.asarray(table)
    rearranged = np.empty_like(table)
    rearranged[..., list(item.stream_codes)] = table
    return rearranged


@pytest.fixture
def streamed() -> Callable[[NumberFormat, npt.ArrayLike], npt.NDArray[Any]]:
    """Return what rearranges a format's tables by the stream's numbers for codes."""
    return _by_stream_code
