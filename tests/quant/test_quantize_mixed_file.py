"""Checkpoints quantised by mixtures and by recipes for layers."""

import json
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.quant import (
    FileError,
    LayeredRecipe,
    Mixture,
    ModelFile,
    Recipe,
    quantize,
    quantize_file,
    quantize_mixture,
)

SHAPES = {"a": (6, 70), "b": (4, 33), "c": (8, 64)}


def mixture(**changes):
    fields = {"formats": ("int2", "int3", "int4"), "budget": {"bits": 3}, "group_size": 16}
    return Mixture.from_fields(fields | changes)


def checkpoint(folder, **extra):
    rng = np.random.default_rng(2)
    tensors = {
        f"{name}.weight": rng.standard_normal(shape).astype(np.float32) * 4.0**n
        for n, (name, shape) in enumerate(SHAPES.items())
    }
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    tensors["b.bias"] = rng.standard_normal(4).astype(np.float32)
    save_file(tensors | extra, folder / "c.safetensors")
    return tensors | extra


def calibration(folder, **extra):
    rng = np.random.default_rng(3)
    tensors = {
        f"{name}.inputs": rng.standard_normal((20, columns)).astype(np.float16)
        for name, (_, columns) in SHAPES.items()
    }
    save_file(tensors | extra, folder / "x.safetensors")
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def run(folder, recipe, *, calibrated=False, **options):
    known = folder / "x.safetensors" if calibrated else None
    return quantize_file(
        folder / "c.safetensors", folder / "m.safetensors", recipe, calibration=known, **options
    )


def mean_bits(file, names=SHAPES):
    bits = sum(file.layer(name).code_bits for name in names)
    return Fraction(bits, sum(file.layer(name).codes.size for name in names))


def assert_equal(one, other):
    assert one.members == other.members
    assert np.array_equal(one.codes, other.codes)
    assert np.array_equal(one.dequantize(), other.dequantize())


@pytest.mark.parametrize("sensitivity", ["weight", "activation", "hessian", "kl"])
def test_each_layer_by_itself(tmp_path, sensitivity):
    tensors, inputs = checkpoint(tmp_path), calibration(tmp_path)
    recipe = mixture(scope="layer", sensitivity=sensitivity)
    file = run(tmp_path, recipe, calibrated=True)
    assert file.recipe == recipe
    file.verify()
    assert [record["layers"] for record in file.allocations] == [[name] for name in file.layers]
    for name, record in zip(file.layers, file.allocations, strict=True):
        wanted = quantize_mixture(
            tensors[f"{name}.weight"], recipe, inputs=inputs[f"{name}.inputs"],
            bias=tensors.get(f"{name}.bias"),
        )  # fmt: skip
        back = file.layer(name)
        assert_equal(back, wanted)
        assert (back.bias is None) == (name != "b")
        assert record["budget"] == {"bits": 3}
        assert record["spent"] == file.code_bits(name) == float(mean_bits(file, [name]))
        assert 2.5 < record["spent"] <= 3
        assert record["exact"] is True
        assert record["bound"] <= record["loss"]


def test_slim_in_a_file(tmp_path):
    tensors, inputs = checkpoint(tmp_path), calibration(tmp_path)
    recipe = mixture(allocator="slim")
    file = run(tmp_path, recipe, calibrated=True)
    assert mean_bits(file) == 3
    for name in file.layers:
        assert_equal(
            file.layer(name),
            quantize_mixture(
                tensors[f"{name}.weight"], recipe, inputs=inputs[f"{name}.inputs"]
            ),
        )  # fmt: skip
    assert all(record["spent"] == 3 for record in file.allocations)


def test_a_budget_for_the_model(tmp_path):
    """The layer whose weights are 16 times as large gets the bits; importance takes them back."""
    checkpoint(tmp_path)
    recipe = mixture(sensitivity="weight", scope="model")
    seen = []
    file = run(tmp_path, recipe, progress=lambda *call: seen.append(call))
    assert float(mean_bits(file)) == pytest.approx(3, abs=0.02)
    assert mean_bits(file) <= 3
    assert file.code_bits("a") < 2.5 < 3.5 < file.code_bits("c")
    (record,) = file.allocations
    assert record["layers"] == list(file.layers)
    assert record["exact"]
    assert record["spent"] == float(mean_bits(file))
    # Two passes, counted in weights.
    sizes = {name: rows * columns for name, (rows, columns) in SHAPES.items()}
    assert [name for name, _, _ in seen] == [*file.layers, *file.layers, file.layers[-1]]
    assert [done for _, done, _ in seen] == [
        0, *np.cumsum([sizes[name] for name in (*file.layers, *file.layers)])
    ]  # fmt: skip
    assert {total for _, _, total in seen} == {2 * sum(sizes.values())}
    calibration(tmp_path, **{"a.importance": np.full(6, 1e6, np.float32)})
    again = run(tmp_path, recipe, calibrated=True)
    assert again.code_bits("a") == 4


@pytest.mark.parametrize("name", ["knapsack", "slim"])
def test_same_file_each_time(tmp_path, name):
    checkpoint(tmp_path)
    calibration(tmp_path)
    recipe = mixture(allocator=name)
    run(tmp_path, recipe, calibrated=True)
    first = (tmp_path / "m.safetensors").read_bytes()
    run(tmp_path, recipe, calibrated=True)
    assert (tmp_path / "m.safetensors").read_bytes() == first


def test_rules_for_layers(tmp_path):
    tensors = checkpoint(tmp_path)
    kept = Recipe(format="int8", group_size=None)
    shared = mixture(sensitivity="weight", budget={"bits": 2.75})
    alone = mixture(sensitivity="weight", scope="layer", budget={"bits": 2.5})
    recipe = LayeredRecipe(
        layers=(("[a]", kept), ("b.weight", alone), ("b*", kept)), default=shared
    )
    file = run(tmp_path, recipe)
    assert file.recipe == recipe
    assert_equal(file.layer("a"), quantize(tensors["a.weight"], format="int8", group_size=None))
    assert_equal(file.layer("b"), quantize_mixture(tensors["b.weight"], alone))
    assert_equal(file.layer("c"), quantize_mixture(tensors["c.weight"], shared))
    assert sorted(record["layers"] for record in file.allocations) == [["b"], ["c"]]
    assert file.record("a").format == "int8"
    assert file.record("c").format == ""
    header = ModelFile(tmp_path / "m.safetensors")._file.metadata
    assert json.loads(header["lutra_recipe"])["layers"][0] == {
        "match": "[a]", "format": "int8", "group_size": None, "method": "absmax", "scale_width": 8
    }  # fmt: skip


def test_files_without_allocations_have_no_such_key(tmp_path):
    checkpoint(tmp_path)
    file = run(tmp_path, Recipe(format="int3"))
    assert file.allocations == []
    assert "lutra_allocations" not in file._file.metadata


@pytest.mark.parametrize(
    ("recipe", "extra", "calibrated", "sentence"),
    [
        (mixture(), {}, False, r"^Sensitivity 'activation' needs the activations of calibration"),
        (
            LayeredRecipe(layers=(("d*", Recipe(format="int4")),), default=Recipe(format="int3")),
            {},
            False,
            r"^The recipe's pattern 'd\*' matches no layer of .*c\.safetensors; layers: a, b, c$",
        ),
        (Recipe(format="int4"), {}, True, r"^Calibration file .* is not used; no layer gets a mix"),
        (
            mixture(sensitivity="weight", budget={"bytes": 100}),
            {},
            False,
            r"^A budget of 100 bytes cannot be met with int2, int3, int4; the least is 3\d\d$",
        ),
        (
            mixture(sensitivity="weight", scope="layer", budget={"bytes": 100}),
            {},
            False,
            r"^Layer '[ac]': A budget of 100 bytes cannot be met with int2, int3, int4; the least",
        ),
        (mixture(), {"a.inputs": np.ones((2, 9), np.float32)}, True, r"shape \(tokens, 70\), not"),
        (mixture(), {"a.inputs": np.ones((0, 70), np.float32)}, True, r"shape \(tokens, 70\), not"),
        (mixture(), {"a.inputs": np.full((2, 70), np.nan, np.float32)}, True, r"must be finite"),
        (mixture(), {"a.inputs": np.ones((2, 70), np.uint8)}, True, r"must be of floats, not U8$"),
        (mixture(), {"a.importance": np.ones(5, np.float32)}, True, r"must be 6 or 1 numbers that"),
        (mixture(), {"a.importance": -np.ones(6, np.float32)}, True, r"must be 6 or 1 numbers"),
    ],
)
def test_nothing_is_left_behind(tmp_path, recipe, extra, calibrated, sentence):
    checkpoint(tmp_path)
    calibration(tmp_path, **extra)
    with pytest.raises(ValueError, match=sentence) as caught:
        run(tmp_path, recipe, calibrated=calibrated)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.safetensors", "x.safetensors"]


def test_bad_weights_name_their_layer(tmp_path):
    checkpoint(tmp_path, **{"c.weight": np.full((2, 2), np.nan, np.float32)})
    for scope in ("layer", "model"):
        with pytest.raises(ValueError, match=r"^Layer 'c': Weights .*\[0, 0\] is NaN$"):
            run(tmp_path, mixture(sensitivity="weight", scope=scope))


def test_a_layer_without_calibration(tmp_path):
    checkpoint(tmp_path, **{"d.weight": np.ones((2, 8), np.float32)})
    calibration(tmp_path)
    with pytest.raises(FileError, match=r"has no tensor 'd\.inputs'$"):
        run(tmp_path, mixture(), calibrated=True)


def test_only_some_layers_are_asked_for(tmp_path):
    checkpoint(tmp_path)
    rules = LayeredRecipe(layers=(("a", Recipe(format="int8")),), default=Recipe(format="int3"))
    file = run(tmp_path, rules, patterns=["c"])
    assert file.layers == ("c",)
    assert file.record("c").format == "int3"


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_memory_does_not_grow_with_the_number_of_layers(tmp_path, scope):
    rng = np.random.default_rng(2)
    largest = 512 * 1024 * 4  # bytes of one tensor as float32
    peaks = []
    for count in (2, 8):
        tensors = {
            f"l{n}.weight": rng.standard_normal((512, 1024), dtype=np.float32) for n in range(count)
        }
        save_file(tensors, tmp_path / "c.safetensors")
        del tensors
        tracemalloc.start()
        run(tmp_path, mixture(sensitivity="weight", scope=scope, group_size=128))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + largest / 2
    assert max(peaks) < 16 * largest, f"{max(peaks) / largest:.1f} times the largest tensor"
