"""What synthesisers are told of memories."""

from typing import Any

__all__ = ["BLOCK", "IN_LOGIC", "NO_COLLISIONS"]

NO_COLLISIONS: dict[str, Any] = {"no_rw_check": 1}
"""What is read in the cycle in which it is written is not used.

Some devices' block RAM gives neither the old nor the new data then; without this, Yosys adds logic
that compares addresses and keeps the data.
"""

BLOCK: dict[str, Any] = {"ram_style": "block"}
"""To be made of block RAM, whatever the size."""

IN_LOGIC: dict[str, Any] = {"logic_block": 1}
"""To be made of LUTs, whatever the size: a table that is never written."""
