"""What tells a bitstream from another: a hash of everything that a host has to know."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..formats.layout import STREAM_VERSION
from .board_memory import BoardMemory
from .protocol import HASH_BYTES, LINK_VERSION

__all__ = ["board_identity"]


def board_identity(engine: Mapping[str, Any], memory: BoardMemory) -> bytes:
    """Hash a configuration.

    Parameters
    ----------
    engine : mapping
        The engine's configuration as plain data.
    memory : BoardMemory
        The board's memories.

    Returns
    -------
    bytes
        The first :data:`HASH_BYTES` of the SHA-256 of the following as JSON, keys in order and
        without blanks, in UTF-8: ``engine``; ``memory``, the words of the three memories;
        ``stream`` and ``link``, the versions of weight stream and host link.
    """
    facts = {
        "engine": engine,
        "memory": [memory.weights, memory.activations, memory.outputs],
        "stream": STREAM_VERSION,
        "link": LINK_VERSION,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:HASH_BYTES]
