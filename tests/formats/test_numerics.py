"""Choices of numerics: what is refused, and the widths that follow."""

import re

import pytest

from lutra.formats import ACTIVATIONS, OUTPUTS, Numerics


def test_names():
    assert ACTIVATIONS == ("int8", "float16", "bfloat16", "float32")
    assert OUTPUTS == ("int", "float16", "bfloat16", "float32")


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("width", [8, 9, 16, 23, 24])
@pytest.mark.parametrize("activation", ["float16", "bfloat16", "float32"])
def test_floats(activation, width, output):
    numerics = Numerics(activation=activation, act_width=width, output=output)
    assert numerics.is_float
    assert not numerics.is_exact
    assert numerics.aligned_width == width
    assert numerics.element_width == {"float16": 16, "bfloat16": 16, "float32": 32}[activation]
    assert numerics.peak == 2 ** (width - 1) - 1
    assert numerics.float_type.name == activation


def test_int8():
    numerics = Numerics(activation="int8", act_width=8)
    assert not numerics.is_float
    assert not numerics.is_exact
    assert (numerics.element_width, numerics.aligned_width, numerics.peak) == (8, 8, 128)


def test_exact():
    numerics = Numerics(activation="float16", act_width="exact")
    assert numerics.is_exact
    assert numerics.exact_exponent == -24
    # float16's largest is 65504.
    assert 65504 << 24 <= numerics.peak == 2**40 - 1
    assert numerics.aligned_width == 41


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (
            {"activation": "float64"},
            "Activation type must be one of int8, float16, bfloat16, float32, not 'float64'",
        ),
        (
            {"output": "int8"},
            "Output type must be one of int, float16, bfloat16, float32, not 'int8'",
        ),
        (
            {"activation": "int8", "act_width": 16},
            "act_width must be 8 for int8 activations, not 16",
        ),
        (
            {"activation": "int8", "act_width": "exact"},
            "act_width must be 8 for int8 activations, not 'exact'",
        ),
        (
            {"activation": "bfloat16", "act_width": "exact"},
            "act_width 'exact' needs float16 activations; give bfloat16 a width in 8..24",
        ),
        ({"act_width": 7}, "act_width must be 'exact' or in 8..24, not 7"),
        ({"act_width": 25}, "act_width must be 'exact' or in 8..24, not 25"),
        ({"act_width": "16"}, "act_width must be 'exact' or in 8..24, not '16'"),
        ({"act_width": 16.0}, "act_width must be 'exact' or in 8..24, not 16.0"),
    ],
)
def test_refused(choices, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Numerics(**choices)
