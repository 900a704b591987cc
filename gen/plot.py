"""Plots as SVG text: points and lines over two axes, nothing to install."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Panel", "Series", "draw"]

# Okabe and Ito, Color Universal Design, 2008: told apart by people who see few colours, too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#000000")
_WIDTH, _HEIGHT = 860, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 210, 40, 50
_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one colour.

    Parameters
    ----------
    name : str
        For the legend; empty to leave it out there.
    points : sequence of (float, float)
        x and y, finite.
    labels : sequence of str
        What a browser shows at each point; as many as points, or none.
    joined : bool
        Whether a line goes through the points, in the order in which they are.
    """

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()
    joined: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Series over common axes.

    Parameters
    ----------
    title, x_label, y_label : str
        Texts.
    series : sequence of Series
        Drawn in this order, each in the next of eight colours.
    x_log, y_log : bool
        Whether an axis is logarithmic; its numbers must be positive then.
    note : str
        Shown where there are no points.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_log: bool = False
    y_log: bool = False
    note: str = "no points"


def draw(panels: Sequence[Panel]) -> str:
    """Draw panels below each other.

    Parameters
    ----------
    panels : sequence of Panel
        From the top.

    Returns
    -------
    str
        An SVG file; depends on nothing but the panels.

    Raises
    ------
    :exc:`ValueError`
        If a number is not finite, or not positive on a logarithmic axis.
    """
    size = f'width="{_WIDTH}" height="{_HEIGHT * len(panels)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate(0 {index * _HEIGHT})">')
        parts += _panel(panel)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    middle, centre = (_LEFT + right) / 2, (_TOP + bottom) / 2
    sideways = f'transform="translate(16 {centre:.1f}) rotate(-90)"'
    size = f'width="{right - _LEFT}" height="{bottom - _TOP}"'
    parts = [
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(panel.title)}</text>',
        _text(middle, _HEIGHT - 12, panel.x_label, "middle"),
        f'<text {sideways} text-anchor="middle">{escape(panel.y_label)}</text>',
        f'<rect x="{_LEFT}" y="{_TOP}" {size} fill="none" stroke="#999999"/>',
    ]
    points = [point for series in panel.series for point in series.points]
    if not points:
        return [*parts, _text(middle, centre, panel.note, "middle")]
    x_of, x_ticks = _axis([x for x, _ in points], (_LEFT + 10, right - 10), panel.x_log)
    y_of, y_ticks = _axis([y for _, y in points], (bottom - 10, _TOP + 10), panel.y_log)
    for value in x_ticks:
        x = x_of(value)
        parts += [_grid((x, _TOP), (x, bottom)), _text(x, bottom + 16, f"{value:g}", "middle")]
    for value in y_ticks:
        y = y_of(value)
        parts += [_grid((_LEFT, y), (right, y)), _text(_LEFT - 6, y + 4, f"{value:g}", "end")]
    for index, series in enumerate(panel.series):
        colour = _COLOURS[index % len(_COLOURS)]
        parts += _series(series, colour, x_of, y_of)
        if series.name:
            parts.append(_text(right + 12, _TOP + 14 + 17 * index, series.name, "start", colour))
    return parts


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#000000") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"


def _grid(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" stroke="#eeeeee"/>'


def _series(
    series: Series, colour: str, x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> list[str]:
    places = [f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in series.points]
    parts = []
    if series.joined:
        path = "M" + " L".join(places)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    labels = series.labels or [""] * len(places)
    for place, label in zip(places, labels, strict=True):
        x, y = place.split()
        title = f"<title>{escape(label)}</title>" if label else ""
        parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}">{title}</circle>')
    return parts


def _axis(
    values: Sequence[float], ends: tuple[float, float], logarithmic: bool
) -> tuple[Callable[[float], float], list[float]]:
    """Return where a number lies on an axis, and the numbers to write beside it."""
    if not all(map(math.isfinite, values)):
        raise ValueError("Numbers of a plot must be finite")
    if logarithmic and min(values) <= 0:
        raise ValueError(f"Numbers of a logarithmic axis must be positive, not {min(values)}")
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if logarithmic else (low - 1, high + 1)
    scale = math.log if logarithmic else float
    start, span = scale(low), scale(high) - scale(low)

    def place(value: float) -> float:
        return ends[0] + (ends[1] - ends[0]) * (scale(value) - start) / span

    return place, (_log_ticks if logarithmic else _ticks)(low, high)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high, about :data:`_TICKS` of them."""
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from low to high, only the powers where many."""
    powers = [10.0**n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    every = [factor * power for power in powers for factor in factors]
    return [value for value in every if low <= value <= high]
