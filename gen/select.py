"""Layers of a model file by pattern."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..quant import ModelFile

__all__ = ["select_layers"]


def select_layers(model: ModelFile, patterns: Sequence[str]) -> list[str]:
    """Return the names of the layers that match any pattern, in the file's order; all for none.

    Raises
    ------
    :exc:`ValueError`
        If a pattern matches no layer, or there are none.
    """
    if not model.layers:
        raise ValueError(f"{model.path} has no layers")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in model.layers):
            some = ", ".join(model.layers[:5]) + (", ..." if len(model.layers) > 5 else "")
            raise ValueError(f"No layer of {model.path} matches {pattern!r}; it has {some}")
    return [
        name
        for name in model.layers
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
