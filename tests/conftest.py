"""What tests of all folders share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lutra.formats import NumberFormat


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
