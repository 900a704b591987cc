"""A number format as JSON, so that a model file can be read without Lutra."""

from typing import Any

from ..formats import (
    CODEBOOKS,
    AffineFormat,
    BinaryCodingFormat,
    CodebookFormat,
    FreeFormat,
    NumberFormat,
    ValueFormat,
    member,
)

__all__ = ["describe_format", "parse_format"]

# Kinds that a code width says all about.
_PLAIN: dict[str, type[AffineFormat | FreeFormat]] = {"affine": AffineFormat, "free": FreeFormat}


def describe_format(item: NumberFormat) -> dict[str, Any]:
    """Return all that decoding needs, as a JSON object."""
    if isinstance(item, ValueFormat):
        return {
            "name": item.name,
            "kind": "values",
            "code_width": item.code_width,
            "values": list(item.values),
            "grid_exponent": item.grid_exponent,
            "zero_point": item.zero_point,
        }
    if isinstance(item, BinaryCodingFormat):
        return {
            "name": item.name,
            "kind": "signs",
            "code_width": item.code_width,
            "offset": item.offset,
        }
    for kind, plain in _PLAIN.items():
        if isinstance(item, plain):
            return {"name": item.name, "kind": kind, "code_width": item.code_width}
    raise ValueError(f"Format {item.name!r} must be one of a kind that model files know")


def parse_format(description: dict[str, Any]) -> NumberFormat:
    """Undo :func:`describe_format`.

    Where the catalogue has the same format, its own object is returned. Values by the name of a
    codebook's slot are a codebook.

    Raises
    ------
    :exc:`ValueError`
        If something is missing or not valid.
    """
    try:
        known = member(description["name"])
        if describe_format(known) == description:
            return known
    except (KeyError, TypeError, ValueError):
        pass  # a format of the file's own, or an error to be told below
    kinds = {"values": ValueFormat, "signs": BinaryCodingFormat, **_PLAIN}
    try:
        fields = dict(description)
        kind = kinds[fields.pop("kind")]
        if "values" in fields:
            fields["values"] = tuple(fields["values"])
        if kind is ValueFormat and fields["name"] in CODEBOOKS:
            kind = CodebookFormat
        return kind(**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"A format is not described as it should be: {description!r}") from error
