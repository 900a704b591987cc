import itertools
import json

import numpy as np
import pytest

from lutra.formats import CATALOG, family
from lutra.quant import (
    METHODS,
    LayeredRecipe,
    Mixture,
    Recipe,
    load_recipe,
    parse_recipe,
    quantize,
    quantize_mixture,
)

INTEGERS = ("int2", "int3", "int4")
SEARCHED = [
    name
    for name, entry in CATALOG.items()
    if any(method.search and method.serves(entry) for method in METHODS.values())
]


def mixture(**changes):
    return Mixture.from_fields({"formats": INTEGERS, "budget": {"bits": 3}} | changes)


def layer(rows=2, columns=40, tokens=30, seed=2):
    rng = np.random.default_rng(seed)
    spread = rng.lognormal(0, 1, columns).astype(np.float32)
    weights = rng.standard_normal((rows, columns)).astype(np.float32) * 2 ** rng.normal(
        0, 1, (rows, 1)
    ).astype(np.float32)
    return weights, rng.standard_normal((tokens, columns)).astype(np.float32) * spread


# -- choosing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensitivity", ["weight", "activation", "hessian"])
@pytest.mark.parametrize("unit", ["group", "row", "columns", "layer"])
@pytest.mark.parametrize("bits", [2, 2.5, 3, 3.7, 4])
def test_against_every_choice(unit, sensitivity, bits):
    """The choice is the best of all, with losses computed here from what candidates dequantise to.

    A scale width of 16 makes the second level of the scales as good as exact.
    """
    weights, inputs = layer()
    recipe = mixture(
        unit=unit, sensitivity=sensitivity, budget={"bits": bits}, group_size=16, scale_width=16
    )
    made = quantize_mixture(weights, recipe, inputs=inputs)
    lengths = np.array([16, 16, 8])
    losses, costs = np.empty((3, 2, 3)), np.empty((3, 2, 3), int)
    hessian = inputs.T.astype(np.float64) @ inputs / len(inputs)
    for index, name in enumerate(INTEGERS):
        alone = quantize(weights, format=name, group_size=16, scale_width=16).dequantize()
        errors = alone - weights
        for group in range(3):
            cut = slice(16 * group, 16 * group + 16)
            part, block = errors[:, cut], hessian[cut, cut]
            if sensitivity == "weight":
                losses[index, :, group] = (part**2).sum(axis=1)
            elif sensitivity == "activation":
                losses[index, :, group] = (part**2 * np.diag(block)).sum(axis=1)
            else:
                losses[index, :, group] = np.diag(part @ block @ part.T)
        costs[index] = family(name).code_width * lengths
    label = {
        "group": np.arange(6).reshape(2, 3),
        "row": np.repeat([[0], [1]], 3, axis=1),
        "columns": np.repeat([[0, 1, 2]], 2, axis=0),
        "layer": np.zeros((2, 3), int),
    }[unit]
    best = np.inf
    for choice in itertools.product(range(3), repeat=int(label.max()) + 1):
        spread = np.array(choice)[label][None]
        if np.take_along_axis(costs, spread, 0).sum() <= bits * weights.size:
            best = min(best, float(np.take_along_axis(losses, spread, 0).sum()))
    names = np.array([item.name for item in made.members])[made.format_ids]
    found = np.vectorize(INTEGERS.index)(names)[None]
    assert made.code_bits <= bits * weights.size
    assert float(np.take_along_axis(losses, found, 0).sum()) == pytest.approx(best, rel=1e-3)
    for value in range(int(label.max()) + 1):
        assert len(set(names[label == value])) == 1


def test_kinds_of_formats_side_by_side():
    weights, inputs = layer(rows=30, columns=128)
    names = ("int2", "bcq2_asym", "ternary", "bitmod3", "bcq3", "int4_asym", "float4_e2m1", "int8")
    recipe = mixture(formats=names, budget={"bits": 3.3}, group_size=16, method="mse")
    made = quantize_mixture(weights, recipe, inputs=inputs, bias=np.arange(30))
    assert made.code_bits <= 3.3 * weights.size
    assert len({item.code_width for item in made.members}) > 1
    assert len({type(item) for item in made.members}) == 2
    assert made.bias is not None
    error = np.square(made.dequantize() - weights).sum()
    uniform = quantize(weights, format="int3", group_size=16, method="mse").dequantize()
    assert error < np.square(uniform - weights).sum()


def test_coarse_scales_are_seen():
    """Beside int2, the 8-bit scales of int8 would be 1 or 2; the losses tell, so it is not taken.

    With 16-bit scales it is.
    """
    weights, _ = layer(rows=20, columns=64)
    shares = {}
    for width in (2, 16):
        recipe = mixture(
            formats=("int2", "int8"), budget={"bits": 7}, sensitivity="weight", group_size=8,
            scale_width=width,
        )  # fmt: skip
        made = quantize_mixture(weights, recipe)
        shares[width] = made.code_bits / weights.size
    assert shares[16] > 6.5
    assert shares[2] < 4


def test_budgets_of_bytes_and_cycles():
    weights, _ = layer(rows=16, columns=64)
    names = ("bcq2", "int3_asym", "int4")
    per_group = {"bcq2": 2 * 16 + 2 * 9, "int3_asym": 3 * 16 + 9 + 3, "int4": 4 * 16 + 9}
    recipe = mixture(formats=names, budget={"bytes": 480}, sensitivity="weight", group_size=16)
    made = quantize_mixture(weights, recipe)
    names_of = [made.members[index].name for index in made.format_ids.ravel()]
    used = sum(per_group[name] for name in names_of)
    assert 8 * 480 - 23 <= used <= 8 * 480
    recipe = mixture(formats=names, budget={"cycles": 3}, sensitivity="weight", group_size=16)
    made = quantize_mixture(weights, recipe)
    planes = [len(made.members[index].planes) for index in made.format_ids.ravel()]
    assert np.mean(planes) <= 3
    # The same budget buys less where an engine needs twice the cycles.
    twice = quantize_mixture(
        weights, mixture(formats=names, budget={"cycles": 6}, sensitivity="weight", group_size=16),
        cycles=lambda item: 2 * len(item.planes),
    )  # fmt: skip
    assert np.array_equal(twice.codes, made.codes)


def test_no_inputs():
    weights, inputs = layer()
    with pytest.raises(ValueError, match=r"^Sensitivity 'activation' needs inputs of calibration"):
        quantize_mixture(weights, mixture())
    with pytest.raises(ValueError, match=r"^Inputs must have one number a column, \(M, 40\), not"):
        quantize_mixture(weights, mixture(), inputs=inputs[:, :30])
    with pytest.raises(ValueError, match=r"^Inputs must be finite numbers; the one at \[0, 0\]"):
        quantize_mixture(weights, mixture(), inputs=np.full((2, 40), np.nan))


# -- budgets that cannot be met -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"formats": ["int2", "int3"], "budget": {"bits": 1.5}},
            r"^A mean of 1\.5 bits cannot be met with int2, int3; the least is 2\.0$",
        ),
        ({"budget": {"bits": 0}}, r"^A budget must be a number above 0, not 0$"),
        ({"budget": {"bits": "3"}}, r"^A budget must be a number above 0, not '3'$"),
        ({"budget": {"bits": True}}, r"^A budget must be a number above 0, not True$"),
        ({"budget": {"bits": float("inf")}}, r"^A budget must be a number above 0, not inf$"),
        ({"budget": {"bytes": 10.5}}, r"^A budget in bytes must be a whole number, not 10\.5$"),
        ({"budget": {"watts": 3}}, r"^The budget of a mixture must be bits or bytes or cycles, "),
        ({"budget": {}}, r"^A budget must be one of bits, bytes, cycles with a number, not \{\}$"),
        ({"budget": 3}, r"^A budget must be one of bits, bytes, cycles with a number, not 3$"),
        ({"formats": ["int2"]}, r"^The formats of a mixture must be two or more, each once, not"),
        ({"formats": ["int2", "int2"]}, r"each once, not int2, int2$"),
        ({"formats": "int2"}, r"^The formats of a mixture must be a list of names, not 'int2'$"),
        ({"formats": ["int2", "int9"]}, r"^Unknown format 'int9'; known formats: int2, "),
        ({"formats": ["int2", ["int3"]]}, r"^Unknown format "),
        ({"allocator": "magic"}, r"^The allocator of a mixture must be knapsack or slim, not "),
        (
            {"sensitivity": "x"},
            r"must be weight or activation or hessian or kl or trace or masked, not 'x'$",
        ),
        ({"unit": []}, r"^The unit of a mixture must be group or row or columns or layer, not"),
        ({"scope": "all"}, r"^The scope of a mixture must be layer or model, not 'all'$"),
        ({"method": "greedy"}, r"^Method 'greedy' serves none of int2, int3, int4$"),
        ({"method": "magic"}, r"^Unknown method 'magic'; methods: absmax, mse, "),
        ({"method": ["mse"]}, r"^Unknown method \['mse'\]; methods: "),
        ({"group_size": 0}, r"^Group size must be at least 1"),
        ({"scale_width": 32}, r"^Scale width must be in 1\.\.31, not 32$"),
        ({"size": 3}, r"^Unknown key 'size' of a mixture; known keys: formats, budget, "),
        ({"allocator": "slim", "scope": "model"}, r"^The slim allocator has scope 'layer' only"),
        ({"allocator": "slim", "unit": "row"}, r"^The slim allocator has unit 'columns' only"),
        (
            {"allocator": "slim", "formats": ["int2", "int4", "int3"]},
            r"^The slim allocator needs three formats of N-1, N and N\+1 bits in this order, such ",
        ),
        (
            {"allocator": "slim", "budget": {"bits": 2.5}},
            r"^The slim allocator spends 3 bits with int2, int3, int4, neither more nor less; ",
        ),
    ],
)
def test_bad_mixtures(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        mixture(**changes)
    assert "\n" not in str(caught.value)


def test_budgets_that_only_the_layer_refuses():
    weights, _ = layer()
    cannot = "cannot be met with int2, int3, int4; the least is"
    # 3 groups a row, two rows: 80 codes of 2 bits and 6 scales of 9 bits.
    for budget, sentence in (
        ({"bytes": 26}, rf"^A budget of 26 bytes {cannot} 27$"),
        ({"cycles": 0.5}, rf"^A mean of 0\.5 cycles {cannot} \d\.0$"),
    ):
        recipe = mixture(budget=budget, sensitivity="weight", group_size=16)
        with pytest.raises(ValueError, match=sentence):
            quantize_mixture(weights, recipe)
    exact = mixture(budget={"bytes": 27}, sensitivity="weight", group_size=16)
    assert quantize_mixture(weights, exact).code_bits == 160


# -- recipes as text ------------------------------------------------------------------------------


def test_defaults_are_written_out():
    assert json.loads(mixture().to_json()) == {
        "formats": ["int2", "int3", "int4"],
        "budget": {"bits": 3},
        "allocator": "knapsack",
        "sensitivity": "activation",
        "unit": "group",
        "scope": "model",
        "group_size": 128,
        "method": None,
        "scale_width": 8,
    }
    by_rule = mixture(allocator="slim", group_size="row")
    assert (by_rule.sensitivity, by_rule.unit, by_rule.scope) == ("kl", "columns", "layer")
    assert by_rule.group_size is None


@pytest.mark.parametrize("name", SEARCHED)
def test_every_recipe_survives_json(name):
    uniform = Recipe(format=name, group_size=None)
    assert parse_recipe(uniform.to_json()) == uniform
    others = [other for other in ("int7", "int8") if other != name]
    mixed = mixture(formats=[*others, name], budget={"bits": 7.25}, group_size=32, unit="row")
    assert parse_recipe(mixed.to_json()) == mixed
    both = LayeredRecipe(layers=(("a.*", mixed), ("lm_head", uniform)), default=mixture())
    assert parse_recipe(both.to_json()) == both
    turned = LayeredRecipe(layers=(("a.*", mixed),), default=uniform)
    assert parse_recipe(turned.to_json()) == turned
    none = LayeredRecipe(layers=(), default=uniform)
    assert parse_recipe(none.to_json()) == none


def test_a_file_of_rules(tmp_path):
    path = tmp_path / "mix.toml"
    path.write_text("""
        formats = ["int2", "int3", "int4"]
        budget = { bits = 3.0 }
        group_size = 32
        sensitivity = "weight"

        [[layers]]
        match = "lm_head"
        format = "int8"

        [[layers]]
        match = "*.q_proj"
        budget = { bits = 2.5 }

        [[layers]]
        match = "*"
        formats = ["bcq2", "bcq3", "bcq4"]
        allocator = "slim"
        budget = { bits = 3 }
        group_size = "row"
    """)
    recipe = load_recipe(path)
    assert isinstance(recipe, LayeredRecipe)
    head, query, rest, default = recipe.rules
    assert head == Recipe(format="int8", group_size=32)
    assert query == mixture(budget={"bits": 2.5}, group_size=32, sensitivity="weight")
    assert rest == mixture(formats=["bcq2", "bcq3", "bcq4"], allocator="slim", group_size=None)
    assert default == mixture(budget={"bits": 3.0}, group_size=32, sensitivity="weight")
    for name, index in (("lm_head", 0), ("lm_head.weight", 0), ("a.q_proj.weight", 1), ("x", 2)):
        assert recipe.rule_of(name) == index
    assert parse_recipe(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("format = 'int9'", r"Unknown format 'int9'"),
        ("format = ['int4']", r"must have a name as 'format', or 'formats' for a mixture$"),
        ("format = 'int4'\nmethod = 3", r"The method of a recipe must be a name, not 3$"),
        ("", r"must have a name as 'format'"),
        ("format = 'int4'\nbits = 3", r"Unknown key 'bits' of a uniform recipe; known keys: form"),
        ("format = ", r"is not TOML: "),
        ("formats = ['int2', 'int3']", r"A mixture must have the key 'budget'$"),
        ("format = 'int4'\nlayers = 3", r"must be tables, each written as \[\[layers\]\]$"),
        ("format = 'int4'\n[layers]\na = 1", r"must be tables, each written as \[\[layers\]\]$"),
        ("format = 'int4'\n[[layers]]\nformat = 'int3'", r"must have the key 'match', a pattern"),
        ("format = 'int4'\n[[layers]]\nmatch = 'a'\nformat = 'x'", r"Layers 'a': Unknown format"),
        ("format = 'int4'\n[[layers]]\nmatch = 'a'\nunit = 'row'", r"Layers 'a': Unknown key 'un"),
    ],
)
def test_bad_files(tmp_path, text, sentence):
    path = tmp_path / "mix.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"^There is no file "):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ValueError, match=r"^Cannot read "):
        load_recipe(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"is not a recipe: it is not text$"):
        load_recipe(tmp_path / "bytes")
