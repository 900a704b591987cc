import json

import pytest

from lutra.formats import BLOCK_FORMATS, CATALOG
from lutra.quant import METHODS, LayeredRecipe, Recipe
from lutra.quant.parse_recipe import parse_recipe

QUANTIZED = [
    name
    for name, entry in CATALOG.items()
    if any(method.serves(entry) for method in METHODS.values())
]


@pytest.mark.parametrize("name", QUANTIZED)
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
        ('{"format": "int4", "scale_width": true}', "Scale width must be an integer"),
        ('{"format": "int4", "group_size": true}', "Group size must be an integer"),
    ],
)
def test_bad_recipes(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe.from_json(text)


@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_block_formats_stand_for_three_choices(name):
    block = BLOCK_FORMATS[name]
    recipe = Recipe(format=name)
    assert (recipe.format, recipe.method) == (block.element, block.method)
    assert recipe.group_size == block.group_size
    assert recipe == Recipe(format=name, group_size=block.group_size, method=block.method)
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (
            {"group_size": 128},
            "'mxfp4' has groups of 32 weights, not 128; leave the group size out",
        ),
        ({"group_size": "row"}, "'mxfp4' has groups of 32 weights, not whole rows"),
        ({"method": "mse"}, "'mxfp4' is made by method 'mx', not 'mse'; leave the method out"),
    ],
)
def test_block_formats_have_no_other_choice(choices, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(format="mxfp4", **choices)


def test_other_names_are_not_written_down():
    assert Recipe(format="pot4").format == "float4_e3m0"
    assert Recipe(format="pot4").group_size == 128


def test_tables_of_block_formats_have_their_own_groups():
    text = json.dumps({
        "format": "int3",
        "group_size": 64,
        "layers": [{"match": "*.q", "format": "nvfp4"}, {"match": "*.k", "format": "int4"}],
    })
    recipe = parse_recipe(text)
    assert isinstance(recipe, LayeredRecipe)
    assert recipe.rules[0] == Recipe(format="nvfp4")
    assert recipe.rules[1] == Recipe(format="int4", group_size=64)
