"""Engine configurations: validated when built, TOML in and out, presets by name."""

import dataclasses
import re
import reprlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ..formats import Numerics, StreamLayout
from ..hdl import LutParameters
from ..hdl.align import exponent_width
from ..sim import EngineInterface
from .keywords import KEYWORDS

__all__ = ["PRESETS", "ConfigurationError", "EngineConfig", "load_config"]


class ConfigurationError(ValueError):
    """A configuration that cannot be read or cannot be built."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Everything that is chosen about one engine.

    Parameters
    ----------
    name : str
        Name of the generated module and its files; a Verilog identifier and no keyword.
    parameters : LutParameters
        Weight stream, numerics and lanes.
    engine : str
        Kind of engine; ``lut`` is the one there is.

    Raises
    ------
    :exc:`ConfigurationError`
        If the name is no such identifier or the kind is unknown.
    """

    name: str
    parameters: LutParameters
    engine: str = "lut"

    def __post_init__(self) -> None:
        is_string = isinstance(self.name, str)
        if not is_string or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", self.name):
            raise ConfigurationError(
                "name must be a Verilog identifier of at most 64 letters, digits and _, "
                f"not {self.name!r}"
            )
        if self.name in KEYWORDS:
            raise ConfigurationError(
                f"name must not be a keyword of Verilog, as {self.name!r} is; add a letter to it"
            )
        if self.engine != "lut":
            raise ConfigurationError(f"engine must be 'lut', not {self.engine!r}")

    @property
    def interface(self) -> EngineInterface:
        """Widths of the engine's streams, as drivers need them."""
        parameters = self.parameters
        return EngineInterface(
            numerics=parameters.numerics,
            act_lanes=parameters.act_lanes,
            output_lanes=parameters.output_lanes,
            beat_width=parameters.layout.beat_width,
            sum_width=parameters.sum_width,
            exponent_width=exponent_width(parameters.numerics),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data: TOML's tables."""
        stream, numerics = self.parameters.layout, self.parameters.numerics
        lut = {name: getattr(self.parameters, name) for name in _field_names(LutParameters)}
        return {
            "name": self.name,
            "engine": self.engine,
            "stream": {n: _plain(getattr(stream, n)) for n in _field_names(StreamLayout)},
            "numerics": {n: getattr(numerics, n) for n in _field_names(Numerics)},
            "lut": lut,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EngineConfig":
        """Build a configuration from plain data.

        Raises
        ------
        :exc:`ConfigurationError`
            If a key is unknown, missing or of the wrong type, or a constraint is not met.
        """
        if not isinstance(data, Mapping):
            raise ConfigurationError(f"A configuration must be a table, not {reprlib.repr(data)}")
        _check_keys("", data, {"name", "engine", "stream", "numerics", "lut"}, {"name", "stream"})
        for key in ("name", "engine"):
            _check_type(key, data.get(key, ""), str)
        try:
            return cls(
                name=data["name"],
                engine=data.get("engine", "lut"),
                parameters=LutParameters(
                    layout=StreamLayout(**_values("stream", data["stream"], StreamLayout)),
                    numerics=Numerics(**_values("numerics", data.get("numerics", {}), Numerics)),
                    **_values("lut", data.get("lut", {}), LutParameters),
                ),
            )
        except ConfigurationError:
            raise
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def to_toml(self) -> str:
        """Return the configuration as TOML text."""
        return tomli_w.dumps(self.to_dict())

    def replace(self, settings: Mapping[str, str]) -> "EngineConfig":
        """Change settings by dotted names.

        Values are in TOML's notation, where bare words are strings, and lists may go without
        brackets: ``int4,int8``.

        Raises
        ------
        :exc:`ConfigurationError`
            If a name is unknown or the result cannot be built.
        """
        data = self.to_dict()
        known = _paths(data)
        for path, text in settings.items():
            if path not in known:
                raise ConfigurationError(
                    f"Unknown setting {path!r}; known settings: {', '.join(known)}"
                )
            *sections, key = path.split(".")
            table = data[sections[0]] if sections else data
            table[key] = _parse_value(text, as_list=isinstance(table[key], list))
        return type(self).from_dict(data)


def load_config(name_or_path: str) -> EngineConfig:
    """Find a configuration: a preset's name, or a TOML file's path.

    Raises
    ------
    :exc:`ConfigurationError`
        If it is neither, or the file is not a configuration that can be built.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"No preset and no file is named {name_or_path!r}; presets: {', '.join(PRESETS)}"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error
    try:
        return EngineConfig.from_dict(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _is_integer(value: Any) -> bool:
    return type(value) is int  # true and false are integers to Python


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


# What a field's annotation asks of a value that comes from TOML.
_KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    int: (_is_integer, "an integer"),
    str: (_is_string, "a string"),
    int | str: (lambda v: _is_integer(v) or _is_string(v), "an integer or a string"),
    tuple[int, ...]: (
        lambda v: isinstance(v, list) and all(_is_integer(item) and item > 0 for item in v),
        "a list of positive integers, such as [32, 64]",
    ),
    tuple[str, ...]: (
        lambda v: isinstance(v, list) and all(_is_string(item) for item in v),
        'a list of strings, such as ["int4"]',
    ),
}


def _field_names(kind: type) -> list[str]:
    """Names of a dataclass's fields that are values, not parts with a section of their own."""
    return [f.name for f in dataclasses.fields(kind) if f.name not in ("layout", "numerics")]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _values(section: str, table: Any, kind: type) -> dict[str, Any]:
    """Return the values of a section, checked by name and type, as a dataclass takes them."""
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{section} must be a table, not {reprlib.repr(table)}")
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name in _field_names(kind)}
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    _check_keys(f"{section}.", table, set(fields), required)
    for key, value in table.items():
        _check_type(f"{section}.{key}", value, fields[key].type)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _check_type(path: str, value: Any, kind: Any) -> None:
    fits, wanted = _KINDS[kind]
    if not fits(value):
        raise ConfigurationError(f"{path} must be {wanted}, not {reprlib.repr(value)}")


def _check_keys(prefix: str, table: Mapping[str, Any], known: set[str], required: set[str]) -> None:
    for key in table:
        if key not in known:
            names = ", ".join(prefix + name for name in sorted(known))
            raise ConfigurationError(f"Unknown setting {prefix + key!r}; known settings: {names}")
    for key in sorted(required - table.keys()):
        raise ConfigurationError(f"Setting {prefix + key!r} is missing")


def _paths(data: Mapping[str, Any]) -> list[str]:
    paths = []
    for key, value in data.items():
        paths += [f"{key}.{name}" for name in value] if isinstance(value, dict) else [key]
    return paths


def _parse_value(text: str, *, as_list: bool) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    if as_list and not isinstance(value, list):
        return [_parse_value(part.strip(), as_list=False) for part in text.split(",")]
    return value


def _preset(name: str, stream: dict[str, Any], lut: dict[str, Any]) -> EngineConfig:
    parameters = LutParameters(layout=StreamLayout(**stream), numerics=Numerics(), **lut)
    return EngineConfig(name=f"lutra_{name}", parameters=parameters)


PRESETS: dict[str, EngineConfig] = {
    # For trying things out and for tests: small enough for every simulator.
    "tiny": _preset(
        "tiny",
        {
            "lanes": 4,
            "width": 16,
            "tile_slices": 4,
            "formats": ("bitmod4", "int4"),
            "group_sizes": (16, 32, 64),
            "max_rows": 256,
            "max_columns": 1024,
        },
        {"act_lanes": 4},
    ),
    # For small language models: 512 weight bits a cycle, the formats most used.
    "small": _preset(
        "small",
        {
            "lanes": 16,
            "width": 32,
            "tile_slices": 4,
            "formats": ("bitmod3", "bitmod4", "float4_e2m1", "int4", "int4_asym"),
            "group_sizes": (32, 64, 128),
            "max_rows": 4096,
            "max_columns": 4096,
        },
        {"act_lanes": 8, "output_lanes": 4},
    ),
    # As wide as a DDR4 or HBM channel pair can feed: 4096 weight bits a cycle.
    "wide": _preset(
        "wide",
        {
            "lanes": 32,
            "width": 128,
            "tile_slices": 1,
            "formats": ("bitmod4",),
            "group_sizes": (128,),
            "max_rows": 16384,
            "max_columns": 16384,
        },
        {"act_lanes": 16, "output_lanes": 8},
    ),
}
