import importlib.util
import re
from pathlib import Path

import pytest

from lutra.quant import (
    METHODS,
    LayeredRecipe,
    Option,
    Recipe,
    load_recipe,
    parse_options,
    recipe_hash,
)

KNOWN = (
    Option(name="count", default=3, low=1, high=9, summary="of them"),
    Option(name="share", default=0.5, low=0, high=1, summary="of all"),
    Option(name="kind", default="a", choices=("a", "b"), summary="which"),
    Option(name="loud", default=False, summary="or not"),
)


def test_words_become_values():
    words = ["count=4", "share=1e-3", "kind=b", "loud=true"]
    found = parse_options("m", KNOWN, words)
    assert found == {"count": 4, "share": 0.001, "kind": "b", "loud": True}
    assert [type(value) for value in found.values()] == [int, float, str, bool]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("count", "An option must be written name=value, not 'count'"),
        ("size=3", "Method 'm' has no option 'size'; its options: count, share, kind, loud"),
        ("count=0", "Method 'm': Option 'count' must be an integer in 1..9, not '0'"),
        ("count=2.5", "Option 'count' must be an integer in 1..9, not '2.5'"),
        ("count=two", "Option 'count' must be an integer in 1..9, not 'two'"),
        ("share=nan", "Option 'share' must be a number in 0..1, not 'nan'"),
        ("share=2", "Option 'share' must be a number in 0..1, not '2'"),
        ("kind=c", "Option 'kind' must be 'a' or 'b', not 'c'"),
        ("loud=yes", "Option 'loud' must be true or false, not 'yes'"),
    ],
)
def test_bad_words(word, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_options("m", KNOWN, [word])
    with pytest.raises(ValueError, match="'share' is given twice"):
        parse_options("m", KNOWN, ["share=1", "share=1"])


@pytest.mark.parametrize("name", METHODS)
def test_options_of_every_method(name):
    """Defaults are allowed, names are arguments, ranges and choices are told."""
    method = METHODS[name]
    names = [item.name for item in method.options]
    assert len(set(names)) == len(names)
    for item in method.options:
        assert item.check(item.default) == item.default
        assert item.wanted
        assert item.summary
        if isinstance(item.default, str):
            assert item.default in item.choices
        elif not isinstance(item.default, bool):
            assert item.low is not None
            assert item.high is not None
            assert item.low <= item.default <= item.high
    if "weighting" in names:
        assert "none" in next(item for item in method.options if item.name == "weighting").choices


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dampning": 1}, "Method 'gptq' has no option 'dampning'; its options: base, damping, "),
        ({"damping": "much"}, "Option 'damping' must be a number in 1e-06..10, not 'much'"),
        ({"damping": True}, "Option 'damping' must be a number"),
        ({"scales": 3}, "Option 'scales' must be 'along' or 'before', not 3"),
        ([1], r"Options must be values by name, not \[1\]"),
    ],
)
def test_bad_options_of_recipes(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(format="int4", method="gptq", options=options)


def test_recipes_complete_their_options():
    recipe = Recipe(format="int4", method="gptq", options={"damping": 1})
    assert recipe.options == {
        "base": "auto", "damping": 1.0, "scales": "along", "order": "given"
    }  # fmt: skip
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe(format="int4", options={}).options is None
    with pytest.raises(ValueError, match="Method 'absmax' has no option 'damping'; it has none"):
        Recipe(format="int4", options={"damping": 1})


def test_options_in_a_recipe_file(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("""
format = "int4"
method = "gptq"
options = { damping = 0.5 }

[[layers]]
match = "a"
group_size = 16

[[layers]]
match = "b"
method = "mse"

[[layers]]
match = "c"
format = "int3"

[[layers]]
match = "d"
options = { order = "activation" }
""")
    recipe = load_recipe(path)
    assert isinstance(recipe, LayeredRecipe)
    chosen = [rule.options for rule in recipe.rules if isinstance(rule, Recipe)]
    gptq = Recipe(format="int4", method="gptq", options={"damping": 0.5}).options
    assert chosen == [
        gptq,
        Recipe(format="int4", method="mse").options,
        None,
        Recipe(format="int4", method="gptq", options={"order": "activation"}).options,
        gptq,
    ]


def test_hash_of_a_recipe():
    one = recipe_hash('{"a": 1, "b": [1, 2]}')
    assert one == recipe_hash('{"b":[1,2],  "a":1}')
    assert one != recipe_hash('{"a": 1, "b": [2, 1]}')
    # sha256sum of {"a":1,"b":[1,2]}
    assert one == "8baa73198470c7bb4c3ce142a8fd651affc0310d878bb9bd159e37a573fb4874"


def test_the_page_lists_every_method():
    """``docs/quantisers.md`` is what ``docs/quantisers.py`` writes."""
    root = Path(__file__).parents[2] / "docs"
    spec = importlib.util.spec_from_file_location("quantisers_page", root / "quantisers.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    assert page.table() in (root / "quantisers.md").read_text(encoding="utf-8")
