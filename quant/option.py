"""A number or a word that a quantiser can be given beside format, group size and scale width."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Option", "OptionValue", "complete_options", "parse_options"]

OptionValue = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a quantiser; its type is that of its default.

    Parameters
    ----------
    name : str
        Name in recipes and on the command line, and of the quantiser's argument.
    default : bool, int, float or str
    summary : str
        One line for people.
    low, high : number, optional
        Least and greatest number.
    choices : tuple of str
        What a word can be.
    """

    name: str
    default: OptionValue
    summary: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """What a value must be, for people."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return " or ".join(map(repr, self.choices))
        kind = "an integer" if isinstance(self.default, int) else "a number"
        if self.low is None or self.high is None:
            return kind
        return f"{kind} in {self.low:g}..{self.high:g}"

    def check(self, value: object) -> OptionValue:
        """Return a value as a plain Python object.

        Raises
        ------
        :exc:`ValueError`
            If it is of another type or out of range; the sentence does not name the quantiser.
        """
        found = self._of_type(value)
        if found is None or not self._allowed(found):
            raise ValueError(f"Option {self.name!r} must be {self.wanted}, not {value!r}")
        return found

    def parse(self, text: str) -> OptionValue:
        """Read a value as written on the command line.

        Raises
        ------
        :exc:`ValueError`
            If it is not valid.
        """
        if isinstance(self.default, str):
            return self.check(text)
        if isinstance(self.default, bool):
            return self.check({"true": True, "false": False}.get(text, text))
        for kind in (int, float):
            try:
                return self.check(kind(text))
            except ValueError:
                if kind is float:
                    break
        raise ValueError(f"Option {self.name!r} must be {self.wanted}, not {text!r}")

    def _of_type(self, value: object) -> OptionValue | None:
        if isinstance(self.default, bool):
            return value if isinstance(value, bool) else None
        if isinstance(self.default, str):
            return value if isinstance(value, str) else None
        if isinstance(value, (bool, str)):
            return None
        try:
            if isinstance(self.default, int):
                return operator.index(value)  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None

    def _allowed(self, value: OptionValue) -> bool:
        if isinstance(value, str):
            return value in self.choices
        # A comparison with NaN is false.
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)


def complete_options(
    method: str, known: Sequence[Option], given: Mapping[str, Any] | None
) -> dict[str, OptionValue]:
    """Check a quantiser's options and add the defaults of those left out.

    Returns
    -------
    dict
        Every option, in the order of ``known``.

    Raises
    ------
    :exc:`ValueError`
        If an option is unknown or its value is not valid; the sentence names the quantiser.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"Options must be values by name, not {given!r}")
    values = dict(given or {})
    for name in values:
        _look_up(method, known, name)
    try:
        return {item.name: item.check(values.get(item.name, item.default)) for item in known}
    except ValueError as error:
        raise ValueError(f"Method {method!r}: {error}") from None


def parse_options(
    method: str, known: Sequence[Option], words: Sequence[str]
) -> dict[str, OptionValue]:
    """Read options from the command line, each ``name=value``.

    Raises
    ------
    :exc:`ValueError`
        If a word has another form, is given twice, or is not valid.
    """
    values: dict[str, OptionValue] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"An option must be written name=value, not {word!r}")
        if name in values:
            raise ValueError(f"Option {name!r} is given twice")
        item = _look_up(method, known, name)
        try:
            values[name] = item.parse(text)
        except ValueError as error:
            raise ValueError(f"Method {method!r}: {error}") from None
    return values


def _look_up(method: str, known: Sequence[Option], name: str) -> Option:
    for item in known:
        if item.name == name:
            return item
    listed = ", ".join(item.name for item in known)
    rest = f"its options: {listed}" if listed else "it has none"
    raise ValueError(f"Method {method!r} has no option {name!r}; {rest}")
