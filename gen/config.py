"""Engine configurations: validated when built, TOML in and out, presets by name."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ..formats import Numerics, StreamLayout
from ..hdl import LutParameters
from ..hdl.align import exponent_width
from ..sim import EngineInterface

__all__ = ["PRESETS", "ConfigurationError", "EngineConfig", "load_config"]


class ConfigurationError(ValueError):
    """A configuration that cannot be read or cannot be built."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Everything that is chosen about one engine.

    Parameters
    ----------
    name : str
        Name of the generated module and its files; a Verilog identifier.
    parameters : LutParameters
        Weight stream, numerics and lanes.
    engine : str
        Kind of engine; ``lut`` is the one there is.

    Raises
    ------
    :exc:`ConfigurationError`
        If the name is no identifier or the kind is unknown.
    """

    name: str
    parameters: LutParameters
    engine: str = "lut"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name):
            raise ConfigurationError(
                f"Name must be a Verilog identifier (letters, digits, _), not {self.name!r}"
            )
        if self.engine != "lut":
            raise ConfigurationError(f"Engine must be 'lut', not {self.engine!r}")

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
        _check_keys("", data, {"name", "engine", "stream", "numerics", "lut"}, {"name", "stream"})
        parts = {}
        for section, kind in (("stream", StreamLayout), ("numerics", Numerics)):
            parts[section] = _build(section, kind, data.get(section, {}))
        lut = data.get("lut", {})
        _check_keys("lut.", lut, set(_field_names(LutParameters)), set())
        try:
            parameters = LutParameters(
                layout=parts["stream"], numerics=parts["numerics"], **dict(lut)
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(str(error)) from error
        return cls(name=data["name"], engine=data.get("engine", "lut"), parameters=parameters)

    def to_toml(self) -> str:
        """Return the configuration as TOML text."""
        return tomli_w.dumps(self.to_dict())

    def replace(self, settings: Mapping[str, str]) -> "EngineConfig":
        """Change fields by dotted names, values in TOML's notation (bare words are strings).

        Raises
        ------
        :exc:`ConfigurationError`
            If a name is unknown or the result cannot be built.
        """
        data = self.to_dict()
        for path, text in settings.items():
            *sections, key = path.split(".")
            table = data
            for section in sections:
                table = table.get(section, {})
            if not isinstance(table, dict) or key not in table or isinstance(table[key], dict):
                raise ConfigurationError(
                    f"Unknown setting {path!r}; known settings: {', '.join(_paths(data))}"
                )
            table[key] = _parse_value(text)
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
    if not path.is_file():
        raise ConfigurationError(
            f"No preset and no file is named {name_or_path!r}; presets: {', '.join(PRESETS)}"
        )
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} is not a TOML configuration: {error}") from error
    try:
        return EngineConfig.from_dict(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _field_names(kind: type) -> list[str]:
    """Names of a dataclass's fields that are values, not parts with a section of their own."""
    return [f.name for f in dataclasses.fields(kind) if f.name not in ("layout", "numerics")]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _build(section: str, kind: Any, table: Any) -> Any:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{section} must be a table, not {table!r}")
    fields = dataclasses.fields(kind)
    required = {f.name for f in fields if f.default is dataclasses.MISSING}
    _check_keys(f"{section}.", table, {f.name for f in fields}, required)
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    for key in ("formats", "group_sizes"):
        if key in values and not isinstance(values[key], tuple):
            raise ConfigurationError(f"{section}.{key} must be a list, not {values[key]!r}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error


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


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


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
