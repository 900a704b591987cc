"""How to quantise with several formats: the candidates, and how to choose among them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from ..formats import CodebookFormat, Family, family
from .codebook_family import recipe_family
from .methods import METHODS, Method, method_for
from .recipe import Recipe
from .units import UNITS

__all__ = ["ALLOCATORS", "BUDGETS", "SCOPES", "SENSITIVITIES", "Mixture"]

ALLOCATORS = ("knapsack", "slim")
SENSITIVITIES = ("weight", "activation", "hessian", "kl", "trace", "masked")
BUDGETS = ("bits", "bytes", "cycles")
SCOPES = ("layer", "model")

_DEFAULTS = {
    "knapsack": {"sensitivity": "activation", "unit": "group", "scope": "model"},
    "slim": {"sensitivity": "kl", "unit": "columns", "scope": "layer"},
}


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Candidate formats, and the rule by which every group gets one of them.

    What is left as None is kept as its default, which depends on the allocator: for ``knapsack``
    the sensitivity ``activation``, the unit ``group`` and the scope ``model``; ``slim`` knows only
    ``kl``, ``columns`` and ``layer``.

    Parameters
    ----------
    formats : sequence of str
        Names of families of the catalogue, at least two; kept as a tuple.
    budget : dict
        One of ``bits`` (mean code bits of a weight), ``bytes`` (of all codes, group scales and
        zero-points in the scope, each at its own width) and ``cycles`` (mean cycles of a slice),
        with a number: what the choice may spend at most.
    allocator : str
        ``knapsack`` or ``slim``.
    sensitivity : str, optional
        What is minimised: ``weight``, the squared error of the weights; ``activation``, the same
        times the mean squares of their inputs; ``hessian``, the squared error of the outputs that
        each group makes; ``kl``, the divergence of the layer's output that each unit makes;
        ``trace``, the squared error of the weights times the mean curvature of their group; or
        ``masked``, the divergence without the unit, times its error's share of its squares.
    unit : str, optional
        What shares a format: ``group``, ``row``, ``columns`` (a column of groups, all rows) or
        ``layer``.
    scope : str, optional
        What shares the budget: each ``layer`` by itself, or the ``model``.
    group_size : int, "row" or None
        As for :class:`Recipe`.
    method : str, optional
        Quantiser of the formats that it serves; others take their default.
    scale_width : int
        Magnitude bits of a group scale, 1 to 16.
    codebooks : dict, optional
        Entries of each codebook's slot among the formats, by its name.

    Raises
    ------
    :exc:`ValueError`
        If a name is unknown, a number is out of range, or the choices do not go together.
    """

    formats: tuple[str, ...]
    budget: dict[str, int | float]
    allocator: str = "knapsack"
    sensitivity: str | None = None
    unit: str | None = None
    scope: str | None = None
    group_size: int | str | None = 128
    method: str | None = None
    scale_width: int = 8
    codebooks: dict[str, Sequence[int]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", _names(self.formats))
        self._check_codebooks()
        _check_choice("allocator", self.allocator, ALLOCATORS)
        for name, default in _DEFAULTS[self.allocator].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        _check_choice("sensitivity", self.sensitivity, SENSITIVITIES)
        _check_choice("unit", self.unit, tuple(UNITS))
        _check_choice("scope", self.scope, SCOPES)
        methods = self.methods
        if self.method is not None and all(method.name != self.method for method in methods):
            raise ValueError(f"Method {self.method!r} serves none of {', '.join(self.formats)}")
        # A uniform recipe has the same checks for these two.
        plain = Recipe(format="int4", group_size=self.group_size, scale_width=self.scale_width)
        object.__setattr__(self, "group_size", plain.group_size)
        object.__setattr__(self, "scale_width", plain.scale_width)
        self._check_budget()
        object.__setattr__(self, "budget", dict(self.budget))
        if self.allocator == "slim":
            self._check_slim()

    @property
    def families(self) -> tuple[Family, ...]:
        """What the formats' names stand for."""
        codebooks = self.codebooks or {}
        return tuple(recipe_family(name, codebooks.get(name)) for name in self.formats)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The quantiser of each format."""
        named = METHODS.get(self.method) if isinstance(self.method, str) else None
        if self.method is not None and named is None:
            raise ValueError(f"Unknown method {self.method!r}; methods: {', '.join(METHODS)}")
        chosen = []
        for entry in self.families:
            method = named if named and named.serves(entry) else method_for(entry)
            if method.search is None:
                raise ValueError(
                    f"Method {method.name!r} does not work group by group; "
                    f"format {entry.name!r} cannot be mixed with others by it"
                )
            chosen.append(method)
        return tuple(chosen)

    @property
    def quantity(self) -> str:
        """What the budget counts: ``bits``, ``bytes`` or ``cycles``."""
        return next(iter(self.budget))

    @property
    def amount(self) -> Fraction:
        """The budget's number, exactly as it was written."""
        return Fraction(str(self.budget[self.quantity]))

    @property
    def needs_calibration(self) -> bool:
        """Whether the sensitivity is measured with activations."""
        return self.sensitivity != "weight"

    @property
    def without_calibration(self) -> str:
        """Sentence for whoever gives no calibration data though they are needed."""
        return (
            f"Sensitivity {self.sensitivity!r} needs the activations of calibration text; "
            "give a calibration file, --calibration FILE, or choose the sensitivity 'weight'"
        )

    def unmeetable(self, least: Fraction | int) -> ValueError:
        """Return the error that names the least budget which can be met."""
        asked = self.budget[self.quantity]
        names = ", ".join(self.formats)
        if self.quantity == "bytes":
            return ValueError(
                f"A budget of {asked} bytes cannot be met with {names}; the least is {least}"
            )
        return ValueError(
            f"A mean of {asked} {self.quantity} cannot be met with {names}; "
            f"the least is {_decimal(least)}"
        )

    def _check_codebooks(self) -> None:
        if self.codebooks is None:
            return
        if not isinstance(self.codebooks, dict):
            raise ValueError(
                f"The codebooks of a mixture must be lists by name, not {self.codebooks!r}"
            )
        for name in self.codebooks:
            if name not in self.formats:
                raise ValueError(
                    f"A codebook is given for {name!r}, which is none of the mixture's formats "
                    f"{', '.join(self.formats)}"
                )
        entries = {
            entry.name: entry.members[0].values
            for entry in self.families
            if isinstance(entry.members[0], CodebookFormat)
        }
        object.__setattr__(self, "codebooks", entries)

    def _check_budget(self) -> None:
        listed = ", ".join(BUDGETS)
        if not isinstance(self.budget, dict) or len(self.budget) != 1:
            raise ValueError(f"A budget must be one of {listed} with a number, not {self.budget!r}")
        _check_choice("budget", self.quantity, BUDGETS)
        value = self.budget[self.quantity]
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not real or not 0 < value < float("inf"):
            raise ValueError(f"A budget must be a number above 0, not {value!r}")
        if self.quantity == "bytes" and value != int(value):
            raise ValueError(f"A budget in bytes must be a whole number, not {value!r}")
        if self.quantity == "bits":
            least = min(family(name).code_width for name in self.formats)
            if self.amount < least:
                raise self.unmeetable(least)

    def _check_slim(self) -> None:
        for name, only in _DEFAULTS["slim"].items():
            if getattr(self, name) != only:
                raise ValueError(
                    f"The slim allocator has {name} {only!r} only, not {getattr(self, name)!r}; "
                    "the knapsack allocator has others"
                )
        widths = [family(name).code_width for name in self.formats]
        middle = widths[len(widths) // 2]
        if widths != [middle - 1, middle, middle + 1]:
            raise ValueError(
                "The slim allocator needs three formats of N-1, N and N+1 bits in this order, "
                f"such as int2, int3, int4, not {', '.join(self.formats)}"
            )
        if self.quantity != "bits" or self.amount != middle:
            raise ValueError(
                f"The slim allocator spends {middle} bits with {', '.join(self.formats)}, neither "
                f"more nor less; the budget must be bits = {middle}"
            )

    def to_json(self) -> str:
        """Return the recipe as one JSON object; ``codebooks`` is there only where there are any."""
        fields_of = asdict(self)
        if self.codebooks is None:
            del fields_of["codebooks"]
        return json.dumps(fields_of)

    @classmethod
    def from_fields(cls, values: dict[str, Any]) -> "Mixture":
        """Make a mixture from the keys of a JSON object or a TOML table.

        Raises
        ------
        :exc:`ValueError`
            If a key is missing or unknown, or a choice is not valid.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(
                    f"Unknown key {name!r} of a mixture; known keys: {', '.join(known)}"
                )
        for name in ("formats", "budget"):
            if name not in values:
                raise ValueError(f"A mixture must have the key {name!r}")
        return cls(**values)


def _names(formats: object) -> tuple[str, ...]:
    if isinstance(formats, str) or not isinstance(formats, (list, tuple)):
        raise ValueError(f"The formats of a mixture must be a list of names, not {formats!r}")
    names = tuple(family(str(name)).name for name in formats)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"The formats of a mixture must be two or more, each once, not {', '.join(names)}"
        )
    if sum(len(family(name).members) for name in names) > 256:
        raise ValueError("The formats of a mixture must have at most 256 members together")
    return names


def _check_choice(thing: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"The {thing} of a mixture must be {' or '.join(choices)}, not {value!r}")


def _decimal(value: Fraction | int) -> str:
    """Write a number with one digit or as many as it takes, at most six."""
    text = f"{float(value):.6f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text
