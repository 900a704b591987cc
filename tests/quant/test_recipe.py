import json

import pytest

from lutra.formats import CATALOG
from lutra.quant import Recipe


@pytest.mark.parametrize("name", CATALOG)
def test_round_trip(name):
    for group_size in (None, 1, 128):
        recipe = Recipe(format=name, group_size=group_size, scale_width=9)
        assert Recipe.from_json(recipe.to_json()) == recipe


def test_defaults_are_written_out():
    recipe = Recipe(format="bcq2", group_size="row")
    assert json.loads(recipe.to_json()) == {
        "format": "bcq2",
        "group_size": None,
        "method": "alternating",
        "scale_width": 8,
        "options": {"rounds": 15, "weighting": "none"},
    }
    assert Recipe(format="int4").method == "absmax"
    assert Recipe(format="int4").group_size == 128


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "JSON object with the keys format, group_size, method, scale_width"),
        ("[]", "JSON object"),
        ("{}", "JSON object"),
        ('{"format": "int4", "bits": 3}', "JSON object"),
        ('{"format": "int9"}', "Unknown format 'int9'"),
        ('{"format": "int4", "method": "greedy"}', "cannot quantise"),
        ('{"format": "int4", "group_size": 0}', "at least 1"),
        ('{"format": "int4", "scale_width": "8"}', "Scale width must be an integer"),
    ],
)
def test_bad_recipes(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe.from_json(text)
