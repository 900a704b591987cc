"""The name of a recipe by its content."""

import hashlib
import json

__all__ = ["recipe_hash"]


def recipe_hash(text: str) -> str:
    """Return the SHA-256 of a recipe: equal recipes have equal hashes, 64 hexadecimal digits.

    Parameters
    ----------
    text : str
        What ``to_json`` returned; spaces and the order of keys do not count. The hash is that of
        the same object with sorted keys and no spaces, as UTF-8.
    """
    canonical = json.dumps(
        json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
