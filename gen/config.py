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
from ..hdl import CORE_OPTIONS, CoreOptions, EngineParameters, LaneSchedule, LutOptions
from ..hdl.activation_store import store_latency, token_latency
from ..hdl.align import exponent_width
from ..hdl.convert_output import output_latency
from ..hdl.drain import Drain
from ..hdl.word_queue import queue_depth
from ..sim import EngineInterface, EngineTiming
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
    parameters : EngineParameters
        Weight stream, numerics, kind of core and lanes.

    Raises
    ------
    :exc:`ConfigurationError`
        If the name is no such identifier.
    """

    name: str
    parameters: EngineParameters

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

    @property
    def engine(self) -> str:
        """Kind of engine, a key of ``CORE_OPTIONS``."""
        return self.parameters.core.engine

    @property
    def interface(self) -> EngineInterface:
        """Widths of the engine's streams, as drivers need them."""
        parameters = self.parameters
        return EngineInterface(
            numerics=parameters.numerics,
            act_lanes=parameters.act_lanes,
            output_lanes=parameters.layout.output_lanes,
            beat_width=parameters.layout.beat_width,
            sum_width=parameters.sum_width,
            exponent_width=exponent_width(parameters.numerics),
            tokens=parameters.tokens,
        )

    @property
    def timing(self) -> EngineTiming:
        """What decides how long the engine takes, as the cycle model needs it."""
        parameters, schedule = self.parameters, LaneSchedule(self.parameters)
        return EngineTiming(
            member_cycles=parameters.member_cycles,
            queue_depth=queue_depth(parameters.layout.ahead),
            slices_ahead=parameters.slices_ahead,
            multiply_interval=parameters.multiply_interval,
            release=schedule.release,
            add=schedule.add,
            banks=parameters.core.banks,
            tokens=parameters.tokens,
            act_lanes=parameters.act_lanes,
            store_latency=store_latency(parameters),
            write_cycles=parameters.core.write_cycles,
            token_latency=token_latency(parameters),
            output_latency=Drain.LATENCY + output_latency(parameters),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data: TOML's tables."""
        parameters = self.parameters
        return {
            "name": self.name,
            "engine": self.engine,
            "stream": _fields_of(parameters.layout),
            "numerics": _fields_of(parameters.numerics),
            "datapath": _fields_of(parameters),
            "core": _fields_of(parameters.core),
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
        sections = {"stream", "numerics", "datapath", "core"}
        _check_keys("", data, {"name", "engine", *sections}, {"name", "stream"})
        for key in ("name", "engine"):
            _check_type(key, data.get(key, ""), str)
        try:
            core = _core_options(data.get("engine", "lut"))
            return cls(
                name=data["name"],
                parameters=EngineParameters(
                    layout=StreamLayout(**_values("stream", data["stream"], StreamLayout)),
                    numerics=Numerics(**_values("numerics", data.get("numerics", {}), Numerics)),
                    core=core(**_values("core", data.get("core", {}), core)),
                    **_values("datapath", data.get("datapath", {}), EngineParameters),
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
        """Change settings by dotted names. Another kind of engine begins with its core's defaults.

        Values are in TOML's notation, where bare words are strings, and lists may go without
        brackets: ``int4,int8``.

        Raises
        ------
        :exc:`ConfigurationError`
            If a name is unknown or the result cannot be built.
        """
        data = self.to_dict()
        engine = settings.get("engine", self.engine)
        if engine != self.engine:
            data["core"] = _fields_of(_core_options(engine)())
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


def _core_options(engine: str) -> type[CoreOptions]:
    if engine not in CORE_OPTIONS:
        known = ", ".join(repr(name) for name in CORE_OPTIONS)
        raise ConfigurationError(f"engine must be one of {known}, not {engine!r}")
    return CORE_OPTIONS[engine]


def _field_names(kind: Any) -> list[str]:
    """Names of a dataclass's fields that are values, not parts with a section of their own."""
    parts = ("layout", "numerics", "core")
    return [f.name for f in dataclasses.fields(kind) if f.name not in parts]


def _fields_of(instance: Any) -> dict[str, Any]:
    values = {name: getattr(instance, name) for name in _field_names(instance)}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}


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


def _preset(
    name: str,
    stream: dict[str, Any],
    datapath: dict[str, Any],
    numerics: Numerics | None = None,
) -> EngineConfig:
    parameters = EngineParameters(
        layout=StreamLayout(**stream), numerics=numerics or Numerics(), **datapath
    )
    return EngineConfig(name=f"lutra_{name}", parameters=parameters)


# For small language models: the formats most used, a tile of 128 columns.
_SMALL = {
    "width": 32,
    "tile_slices": 4,
    "formats": ("bitmod3", "bitmod4", "float4_e2m1", "int4", "int4_asym"),
    "group_sizes": (32, 64, 128),
    "max_columns": 4096,
}

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
        {**_SMALL, "lanes": 16, "output_lanes": 4, "max_rows": 4096},
        {"act_lanes": 8, "adder_levels": 1},
    ),
    # The same for an ECP5-85, of which it takes 28 %: half the lanes, decoders for LUTs of four
    # inputs, and tables of six activations, as deep as a block RAM there, with a register behind.
    "small_ecp5": _preset(
        "small_ecp5",
        {**_SMALL, "lanes": 8, "output_lanes": 2, "max_rows": 2048},
        {
            "act_lanes": 4,
            "adder_levels": 1,
            "lut_inputs": 4,
            "core": LutOptions(mu=6, table="block"),
        },
    ),
    # For layers whose groups differ in width, from 2 to 8 bits.
    "mixed": _preset(
        "mixed",
        {
            "lanes": 16,
            "width": 32,
            "tile_slices": 4,
            "formats": (
                *(f"int{width}" for width in range(2, 9)),
                "ternary",
                "bitmod3",
                "bitmod4",
                "float4_e2m1",
            ),
            "group_sizes": (32, 64, 128),
            "output_lanes": 4,
            "max_rows": 4096,
            "max_columns": 4096,
        },
        {"act_lanes": 8, "slices_ahead": 4},
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
            "output_lanes": 8,
            "max_rows": 16384,
            "max_columns": 16384,
        },
        {"act_lanes": 16},
    ),
    # For an ECP5-85: tables in block RAM, which is what costs the fewest LUTs there (docs/area.md);
    # activations of 14 bits make entries of 18, the width of a block.
    "ecp5": _preset(
        "ecp5",
        {
            "lanes": 8,
            "width": 128,
            "tile_slices": 1,
            "formats": ("int4", "bitmod4"),
            "group_sizes": (128,),
            "max_rows": 4096,
            "max_columns": 4096,
        },
        {
            "act_lanes": 16,
            "slices_ahead": 1,
            "adder_levels": 1,
            "lut_inputs": 4,
            "core": LutOptions(mu=9, table="block"),
        },
        Numerics(act_width=14),
    ),
    # The same for 7-series devices of the larger kind, with four times the lanes.
    "xc7": _preset(
        "xc7",
        {
            "lanes": 32,
            "width": 128,
            "tile_slices": 1,
            "formats": ("int4", "bitmod4"),
            "group_sizes": (128,),
            "output_lanes": 4,
            "max_rows": 4096,
            "max_columns": 4096,
        },
        {
            "act_lanes": 16,
            "slices_ahead": 1,
            "adder_levels": 1,
            "core": LutOptions(mu=9, table="block"),
        },
        Numerics(act_width=14),
    ),
}
