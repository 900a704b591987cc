import numpy as np
import pytest

from lutra.gen import PRESETS
from lutra.gen.random_layer import random_layer, recipe_layer
from lutra.quant import load_recipe, quantize

TINY = PRESETS["tiny"]


def equal(first, second):
    names = ("codes", "format_ids", "scales", "zeros", "row_scales")
    return first.members == second.members and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in names
    )


def recipe(tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    return load_recipe(tmp_path / "r.toml")


def test_one_format_is_quantised():
    layer = random_layer((5, 40), ["int4"], 16, TINY, seed=3)
    weights = np.random.default_rng(3).standard_normal((5, 40), dtype=np.float32)
    assert equal(layer, quantize(weights, format="int4", group_size=16))


def test_several_formats_are_mixed():
    layer = random_layer((32, 64), ["int2", "bitmod3"], 16, TINY, seed=3)
    assert sorted({item.name for item in layer.members}) == sorted([
        "int2",
        "bitmod3_p3",
        "bitmod3_m3",
        "bitmod3_p6",
        "bitmod3_m6",
    ])
    assert set(np.unique(layer.format_ids)) == set(range(5))
    assert equal(layer, random_layer((32, 64), ["int2", "bitmod3"], 16, TINY, seed=3))
    assert not equal(layer, random_layer((32, 64), ["int2", "bitmod3"], 16, TINY, seed=4))


def test_a_uniform_recipe(tmp_path):
    chosen = recipe(tmp_path, 'format = "int4"\ngroup_size = 32\nmethod = "mse"\n')
    layer = recipe_layer((4, 64), chosen, TINY, seed=1)
    weights = np.random.default_rng(1).standard_normal((4, 64), dtype=np.float32)
    assert equal(layer, quantize(weights, format="int4", group_size=32, method="mse"))


@pytest.mark.parametrize("sensitivity", ["weight", "activation"])
def test_a_mixture_within_its_budget(tmp_path, sensitivity):
    text = 'formats = ["int2", "int3", "int4"]\ngroup_size = 16\nbudget = { bits = 3.0 }\n'
    chosen = recipe(tmp_path, f'{text}sensitivity = "{sensitivity}"\n')
    layer = recipe_layer((16, 64), chosen, TINY, seed=1)
    assert len(np.unique(layer.format_ids)) > 1
    assert layer.code_bits <= 3 * 16 * 64


def test_a_budget_of_cycles_is_the_engines(tmp_path):
    text = 'formats = ["int4", "bitmod4"]\ngroup_size = 16\nsensitivity = "weight"\n'
    planes = recipe(tmp_path, f"{text}budget = {{ cycles = 4 }}\n")
    # Five planes a slice of bitmod4, but two terms of two parts: as many cycles as those of int4.
    lut = recipe_layer((16, 64), planes, TINY, seed=1)
    term = recipe_layer((16, 64), planes, TINY.replace({"engine": "term"}), seed=1)
    assert {item.name for item in lut.members} == {"int4"}
    assert {item.name for item in term.members} > {"int4"}


def test_refusals(tmp_path):
    layered = recipe(tmp_path, 'format = "int4"\n[[layers]]\nmatch = "a*"\nformat = "int8"\n')
    with pytest.raises(ValueError, match=r"^A random layer has no name; use a recipe without "):
        recipe_layer((4, 64), layered, TINY, seed=1)
    for make in (
        lambda: random_layer((257, 64), ["int4"], 16, TINY, seed=1),
        lambda: recipe_layer((257, 64), layered, TINY, seed=1),
    ):
        with pytest.raises(ValueError, match=r"^--shape 257x64 is larger than the limit of lutra_"):
            make()
    with pytest.raises(ValueError, match=r"^Unknown format 'int9'; known formats: "):
        random_layer((4, 64), ["int4", "int9"], 16, TINY, seed=1)
