"""Recipes from JSON and from TOML."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..formats import BLOCK_FORMATS
from .file_error import FileError
from .layered_recipe import LayeredRecipe
from .mixture import Mixture
from .recipe import Recipe

__all__ = ["AnyRecipe", "load_recipe", "parse_recipe"]

AnyRecipe = Recipe | Mixture | LayeredRecipe

_UNIFORM = {field.name for field in fields(Recipe)}


def parse_recipe(text: str) -> AnyRecipe:
    """Read what a recipe's ``to_json`` wrote: a uniform one, a mixture or a layered one.

    Raises
    ------
    :exc:`ValueError`
        If the text is no such object or a choice in it is not valid.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = None
    if isinstance(values, dict) and ("layers" in values or "formats" in values):
        return _from_fields(values)
    return Recipe.from_json(text)


def load_recipe(path: str | Path) -> AnyRecipe:
    """Read a recipe file, TOML.

    The keys at the top are those of :class:`Recipe`, with ``format``, or of :class:`Mixture`, with
    ``formats``. Each table ``[[layers]]`` has a pattern, ``match``, and the keys in which the
    layers of that pattern differ.

    Raises
    ------
    FileError
        If the file is missing or not TOML, or a choice in it is not valid.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return _from_fields(values)
    except FileNotFoundError:
        raise FileError(f"There is no file {path}") from None
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise FileError(f"{path} is not a recipe: it is not text") from None
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{path} is not TOML: {error}") from None
    except ValueError as error:
        raise FileError(f"Recipe {path}: {error}") from None


def _from_fields(values: dict[str, Any]) -> AnyRecipe:
    top = dict(values)
    tables = top.pop("layers", None)
    default = _rule(top)
    if tables is None:
        return default
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("The layers of a recipe must be tables, each written as [[layers]]")
    rules = []
    for table in tables:
        own = dict(table)
        pattern = own.pop("match", None)
        if not isinstance(pattern, str) or not pattern:
            raise ValueError("Every table of layers must have the key 'match', a pattern of names")
        try:
            rules.append((pattern, _rule(_inherit(top, own))))
        except ValueError as error:
            raise ValueError(f"Layers {pattern!r}: {error}") from None
    return LayeredRecipe(layers=tuple(rules), default=default)


def _inherit(top: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Complete a table by the keys at the top that it leaves out."""
    if "format" not in own and "formats" not in own:
        # Options are those of one method.
        kept = set(top) - ({"options"} if "method" in own else set())
        return {name: value for name, value in top.items() if name in kept} | own
    if "format" in own:
        kept = _UNIFORM - {"format", "method", "codebook", "options"}
        if str(own["format"]) in BLOCK_FORMATS:  # which has a size of its own
            kept -= {"group_size"}
    elif "allocator" in own:
        kept = {"group_size", "scale_width", "budget"}
    else:
        kept = set(top) - {"format", "method", "codebook", "codebooks", "options"}
    return {name: value for name, value in top.items() if name in kept} | own


def _rule(values: dict[str, Any]) -> Recipe | Mixture:
    if "formats" in values:
        return Mixture.from_fields(values)
    if not isinstance(values.get("format"), str):
        raise ValueError("A recipe must have a name as 'format', or 'formats' for a mixture")
    if not isinstance(values.get("method", ""), str | None):
        raise ValueError(f"The method of a recipe must be a name, not {values['method']!r}")
    for name in values:
        if name not in _UNIFORM:
            raise ValueError(
                f"Unknown key {name!r} of a uniform recipe; known keys: "
                f"{', '.join(field.name for field in fields(Recipe))}"
            )
    return Recipe(**values)
