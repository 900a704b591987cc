import re
from xml.etree import ElementTree

import pytest

from lutra.gen.plot import Panel, Series, draw

SVG = "{http://www.w3.org/2000/svg}"


def panel(*series, **choices):
    return Panel(title="a < b", x_label="bits", y_label="loss", series=series, **choices)


def circles(text):
    found = ElementTree.fromstring(text).iter(f"{SVG}circle")
    return [(float(item.get("cx", "")), float(item.get("cy", ""))) for item in found]


def texts(text):
    return [item.text for item in ElementTree.fromstring(text).iter(f"{SVG}text")]


def test_points_keep_their_order_and_proportions():
    text = draw([panel(Series(name="s", points=[(2, 1.0), (3, 0.5), (5, 0.0)]))])
    (x1, y1), (x2, y2), (x3, y3) = circles(text)
    assert x3 - x2 == pytest.approx(2 * (x2 - x1), abs=0.2)
    assert y1 < y2 < y3
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.2)


def test_texts_are_there_and_escaped():
    series = Series(name="R&D", points=[(0, 0), (1, 1)], labels=["one", "<two>"], joined=True)
    text = draw([panel(series)])
    assert {"a < b", "bits", "loss", "R&D"} <= set(texts(text))
    titles = ElementTree.fromstring(text).iter(f"{SVG}title")
    assert [title.text for title in titles] == ["one", "<two>"]
    assert 'fill="none" stroke="#0072b2"' in text


def test_ticks_are_round_numbers_within_the_axis():
    text = draw([panel(Series(name="", points=[(2.1, 1.1364), (8.9, 1.61)]))])
    assert [item for item in texts(text) if item and re.fullmatch(r"[\d.]+", item)] == [
        *("4", "6", "8"),
        *("1.2", "1.3", "1.4", "1.5", "1.6"),
    ]


def test_logarithmic_axes():
    text = draw([panel(Series(name="", points=[(1, 1), (10, 1), (100, 1)]), x_log=True)])
    (x1, _), (x2, _), (x3, _) = circles(text)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert {"1", "2", "5", "10", "20", "50", "100"} <= set(texts(text))


@pytest.mark.parametrize("value", [0, -1.0])
def test_logarithmic_axes_refuse(value):
    with pytest.raises(ValueError, match=rf"must be positive, not {value}$"):
        draw([panel(Series(name="", points=[(value, 1)]), x_log=True)])


def test_numbers_must_be_finite():
    with pytest.raises(ValueError, match=r"^Numbers of a plot must be finite$"):
        draw([panel(Series(name="", points=[(1, float("nan"))]))])


def test_no_points_and_several_panels():
    text = draw([panel(note="not measured"), panel(Series(name="", points=[(1, 1)]))])
    assert "not measured" in texts(text)
    assert len(circles(text)) == 1
    assert ElementTree.fromstring(text).get("height") == "860"
