"""Powers of evenly spaced numbers: as they are, and rounded to a grid."""

import re

import pytest

from lutra.formats import CodebookFormat, power_values


@pytest.mark.parametrize("width", range(2, 9))
def test_exponents_whose_powers_are_integers(width):
    half = range(1 << (width - 1))
    for exponent, power in ((1, 1), (0.5, 2), (0.25, 4)):
        values = power_values(width, exponent)
        assert list(values) == [q**power for q in half] + [-(q**power) for q in half]
        assert all(type(value) is int for value in values)


def test_a_peak_rounds_to_a_grid():
    # 127 * (q / 7) ** (1 / 0.6) = 0, 4.96, 15.74, 30.94, 49.98, 72.50, 98.23, 127
    magnitudes = [0, 5, 16, 31, 50, 72, 98, 127]
    values = power_values(4, 0.6, peak=127)
    assert list(values) == magnitudes + [-magnitude for magnitude in magnitudes]
    assert CodebookFormat.of(values).values == values


def test_a_peak_of_the_powers_themselves():
    assert power_values(2, 1, peak=5) == (0, 5, 0, -5)
    assert power_values(3, 1, peak=3) == power_values(3, 1)
    assert power_values(4, 0.5, peak=49) == power_values(4, 0.5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((1, 0.5), "Code width must be in 2..8, not 1"),
        ((9, 0.5), "Code width must be in 2..8, not 9"),
        ((4, 0), "The exponent must be over 0 and at most 1, not 0"),
        ((4, 1.5), "The exponent must be over 0 and at most 1, not 1.5"),
        ((4, float("nan")), "The exponent must be over 0 and at most 1, not nan"),
        ((4, 0.5, 0), "The peak must be at least 1, not 0"),
        (
            (4, 0.7),
            "Powers for the exponent 0.7 are no integers; give a peak to round them to a grid",
        ),
    ],
)
def test_refused(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        power_values(*arguments)
