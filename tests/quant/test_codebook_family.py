"""Codebooks in recipes, in model files and in what quantisers make."""

import json
import re

import numpy as np
import pytest

from lutra.formats import CodebookFormat, ValueFormat, family
from lutra.quant import (
    METHODS,
    LayeredRecipe,
    LayerRecord,
    Mixture,
    ModelFile,
    ModelWriter,
    Recipe,
    load_recipe,
    parse_recipe,
    quantize,
    quantize_mixture,
)
from lutra.quant.codebook_family import recipe_family
from lutra.sim import random_matrix

EIGHT = (-9, -5, -2, 0, 1, 3, 6, 12)
SIXTEEN = tuple(range(-40, 40, 5))


def _weights(rows=6, columns=50, seed=1):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize(("name", "values"), [("codebook3", EIGHT), ("codebook4", SIXTEEN)])
@pytest.mark.parametrize("method", [None, "absmax", "mse"])
def test_nearest_entries(name, values, method):
    """As any value format of the same table; every weight has the entry nearest to it."""
    weights = _weights()
    made = quantize(weights, format=name, group_size=16, codebook=values, method=method)
    (item,) = made.members
    assert item == CodebookFormat.of(values)
    assert len(np.unique(made.codes)) == len(values)
    if method == "mse":
        worse = quantize(weights, format=name, group_size=16, codebook=values)
        error, other = (np.square(m.dequantize() - weights).sum() for m in (made, worse))
        assert error < other
        return
    # In steps of the group's scale before it was split, the largest weight has the largest entry.
    for row in range(len(weights)):
        group = weights[row, :16]
        step = np.abs(group).max() / max(map(abs, values))
        distances = np.abs(group[:, None] / step - np.array(values))
        chosen = distances[np.arange(16), made.codes[row, :16]]
        assert np.allclose(chosen, distances.min(axis=1), atol=1e-4)


def test_special_values_of_bitmod_are_a_codebook():
    """A special value that the catalogue lacks: the same integers, codes and scales."""
    member = family("bitmod4").members[0]
    assert isinstance(member, ValueFormat)
    codebook = quantize(_weights(), format="codebook4", group_size=16, codebook=member.values)
    assert codebook.members[0].planes is not member.planes
    table = codebook.members[0].weight_table([7])
    assert table.tolist() == member.weight_table([7]).tolist()
    seven = CodebookFormat.of([value if value != 10 else 14 for value in member.values])
    assert 14 in seven.weight_table([1])


# -- recipes --------------------------------------------------------------------------------------


def test_recipe_round_trip():
    recipe = Recipe(format="codebook3", group_size=16, codebook=list(EIGHT))
    assert recipe.codebook == EIGHT
    assert json.loads(recipe.to_json())["codebook"] == list(EIGHT)
    assert parse_recipe(recipe.to_json()) == recipe
    assert "codebook" not in Recipe(format="int4").to_json()


def test_mixture_round_trip():
    mixture = Mixture(
        formats=("int3", "codebook4"), budget={"bits": 3.5}, codebooks={"codebook4": [*SIXTEEN]}
    )
    assert mixture.codebooks == {"codebook4": SIXTEEN}
    assert parse_recipe(mixture.to_json()) == mixture
    assert "codebooks" not in Mixture(formats=("int3", "int4"), budget={"bits": 3.5}).to_json()


def test_layered_recipe(tmp_path):
    """A table with a format of its own does not take over the codebook at the top."""
    path = tmp_path / "recipe.toml"
    path.write_text(f"""
        format = "codebook4"
        codebook = {list(SIXTEEN)}
        [[layers]]
        match = "a"
        format = "int4"
        [[layers]]
        match = "b"
        codebook = {list(SIXTEEN[::-1])}
        [[layers]]
        match = "c"
        formats = ["int3", "codebook3"]
        budget = {{ bits = 3 }}
        codebooks = {{ codebook3 = {list(EIGHT)} }}
    """)
    recipe = load_recipe(path)
    assert isinstance(recipe, LayeredRecipe)
    assert [rule.to_json() for rule in recipe.rules] == [
        Recipe(format="int4").to_json(),
        Recipe(format="codebook4", codebook=SIXTEEN[::-1]).to_json(),
        Mixture(
            formats=("int3", "codebook3"), budget={"bits": 3}, codebooks={"codebook3": EIGHT}
        ).to_json(),
        Recipe(format="codebook4", codebook=SIXTEEN).to_json(),
    ]
    assert parse_recipe(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"format": "codebook4"},
            (
                "Format 'codebook4' has no values of its own; a recipe gives them as 'codebook', "
                "a list of 16 integers"
            ),
        ),
        (
            {"format": "int4", "codebook": SIXTEEN},
            "A codebook goes with the formats codebook3 and codebook4, not with 'int4'",
        ),
        (
            {"format": "codebook3", "codebook": SIXTEEN},
            "The codebook of format 'codebook3' must have 8 entries, not 16",
        ),
        (
            {"format": "codebook3", "codebook": [0] * 8},
            "A codebook to quantise with must have an entry other than 0",
        ),
        (
            {"format": "codebook3", "codebook": EIGHT, "method": "greedy"},
            "Method 'greedy' cannot quantise to format 'codebook3'; methods that can: "
            + ", ".join(
                item.name
                for item in METHODS.values()
                if item.serves(recipe_family("codebook3", EIGHT))
            ),
        ),
    ],
)
def test_bad_recipes(fields, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("codebooks", "sentence"),
    [
        (
            None,
            (
                "Format 'codebook3' has no values of its own; a recipe gives them as 'codebook', "
                "a list of 8 integers"
            ),
        ),
        (
            {"codebook3": EIGHT, "codebook4": SIXTEEN},
            (
                "A codebook is given for 'codebook4', which is none of the mixture's formats "
                "int4, codebook3"
            ),
        ),
        ([1], "The codebooks of a mixture must be lists by name, not [1]"),
        ({"codebook3": EIGHT[:7]}, "A codebook must have 8 or 16 entries, not 7"),
    ],
)
def test_bad_mixtures(codebooks, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Mixture(formats=("int4", "codebook3"), budget={"bits": 3.5}, codebooks=codebooks)


def test_mixture():
    mixture = Mixture(
        formats=("codebook3", "int4"),
        budget={"bits": 3.5},
        sensitivity="weight",
        group_size=16,
        codebooks={"codebook3": EIGHT},
    )
    matrix = quantize_mixture(_weights(), mixture)
    matrix = matrix[0] if isinstance(matrix, tuple) else matrix
    assert {item.name for item in matrix.members} == {"codebook3", "int4"}
    assert len(np.unique(matrix.format_ids)) == 2


# -- model files ----------------------------------------------------------------------------------


def test_model_file_round_trip(tmp_path):
    path = tmp_path / "model.safetensors"
    members = [CodebookFormat.of(EIGHT), *family("int4").members, CodebookFormat.of(SIXTEEN)]
    layers = {
        "mixed": random_matrix(members, 7, 40, 16, seed=1),
        "one": random_matrix(members[:1], 7, 40, 16, seed=2),
    }
    with ModelWriter(path, recipe=Recipe(format="codebook3", codebook=EIGHT)) as writer:
        for name, matrix in layers.items():
            writer.add(name, matrix)
    model = ModelFile(path)
    model.verify()
    assert model.recipe == Recipe(format="codebook3", codebook=EIGHT)
    for name, matrix in layers.items():
        read = model.layer(name)
        assert read.members == matrix.members
        assert [type(item) for item in read.members] == [type(item) for item in matrix.members]
        assert np.array_equal(read.integer_weights(), matrix.integer_weights())
    assert (model.record("mixed").format, model.record("one").format) == ("", "codebook3")


def test_readers_without_codebooks_see_plain_values():
    """The description is that of a value format: all that decoding needs is there."""
    matrix = random_matrix([CodebookFormat.of(EIGHT)], 2, 8, 8, seed=1)
    (described,) = LayerRecord.of(matrix).to_json()["members"]
    assert described == {
        "name": "codebook3",
        "kind": "values",
        "code_width": 3,
        "values": list(EIGHT),
        "grid_exponent": 0,
        "zero_point": False,
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"values": [1] * 7}, "A codebook must have 8 or 16 entries, not 7"),
        ({"values": [1] * 16}, "A codebook of 3-bit codes must have 8 entries, not 16"),
        (
            {"values": [1] * 7 + [128]},
            "Codebook entries must be integers in -128..127, but entry 7 is 128",
        ),
        ({"zero_point": True}, "A codebook has neither a zero-point nor unused codes"),
    ],
)
def test_bad_descriptions(change, sentence):
    record = LayerRecord.of(random_matrix([CodebookFormat.of(EIGHT)], 2, 8, 8, seed=1)).to_json()
    record["members"][0].update(change)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        LayerRecord.from_json(record)
