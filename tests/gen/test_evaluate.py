import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lutra.gen import PRESETS, make_backend, random_tokens
from lutra.gen.evaluation import evaluate_model
from lutra.quant import METHODS, Checkpoint, Recipe, quantize, quantize_file, weight_error
from lutra.sim import LanguageTest, ModelDims, TinyLM
from lutra.sim.model_dims import tensor_shapes
from lutra.sim.sample_checkpoints import write_awq

DIMS = ModelDims(
    hidden_size=24, intermediate_size=40, layer_count=1, head_count=3, context_length=16
)
TEXT = b"def main(arguments):\n    for argument in arguments:\n        print(argument)\n" * 2


@pytest.fixture
def language_model(tmp_path) -> Path:
    rng = np.random.default_rng(1)
    tensors = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in tensor_shapes(DIMS).items()
    }
    path = tmp_path / "lm.safetensors"
    save_file(tensors, path, DIMS.to_metadata())
    return path


def test_signal_to_noise_of_every_case(lutra, checkpoint):
    path = checkpoint()
    methods = ["--method", "absmax,mse,alternating,greedy"]
    arguments = ["--format", "int4,bcq2", "--group-size", "16,row", *methods, "--json"]
    found = json.loads(lutra("evaluate", path, *arguments).out)
    names = [(case["format"], case["group_size"], case["method"]) for case in found["cases"]]
    assert names == [
        (name, size, method)
        for name, methods in (("int4", ("absmax", "mse")), ("bcq2", ("alternating", "greedy")))
        for size in ("16", "row")
        for method in methods
    ]
    layers = list(Checkpoint(path).layers())
    for case in found["cases"]:
        errors = [
            weight_error(
                layer.weights,
                quantize(
                    layer.weights,
                    format=case["format"],
                    group_size=case["group_size"] if case["group_size"] == "row" else 16,
                    method=case["method"],
                ),
            )
            for layer in layers
        ]
        assert [item["sqnr_db"] for item in case["layers"]] == [e.sqnr_db for e in errors]
        assert case["sqnr_db"] == pytest.approx((errors[0] + errors[1]).sqnr_db)
        assert case["weights"] == 7 * 40 + 5 * 64
        assert case["loss"] is case["cycles"] is None


def test_a_method_is_tried_where_it_serves(lutra, checkpoint):
    arguments = ["--format", "int4,bcq2", "--method", "mse,greedy", "--json"]
    found = json.loads(lutra("evaluate", checkpoint(), *arguments).out)
    assert [case["method"] for case in found["cases"]] == ["mse", "greedy"]


def test_block_formats_have_one_recipe(lutra, checkpoint):
    path = checkpoint()
    arguments = ["--format", "int4,nvfp4", "--group-size", "8,row", "--json"]
    found = json.loads(lutra("evaluate", path, *arguments).out)
    cases = [(case["format"], case["group_size"], case["method"]) for case in found["cases"]]
    assert cases == [("int4", "8", "absmax"), ("int4", "row", "absmax"), ("nvfp4", "16", "nv")]
    arguments = ["--format", "int4,mxfp4", "--method", "all", "--json"]
    found = json.loads(lutra("evaluate", path, *arguments).out)
    cases = [(case["group_size"], case["method"]) for case in found["cases"]]
    assert cases.count(("32", "mx")) == 1
    refused = lutra("evaluate", path, "--format", "mxfp4", "--method", "mse")
    assert refused.status == 2
    assert "Format 'mxfp4' is made by method 'mx', not 'mse'" in refused.err


def test_a_quantised_checkpoint(lutra, tmp_path):
    sample = write_awq(tmp_path / "awq", np.random.default_rng(1))
    refused = lutra("evaluate", sample.path)
    assert refused.status == 2
    assert "is a quantised checkpoint, of awq; give one of floats" in refused.err
    assert lutra("evaluate", sample.path, "--layers", "lm_head").status == 0


def test_a_folder_of_shards(lutra, tmp_path, checkpoint):
    whole = json.loads(lutra("evaluate", checkpoint(), "--json").out)
    (tmp_path / "shards").mkdir()
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        save_file({name: tensor}, tmp_path / "shards" / f"{name}.safetensors")
    parts = json.loads(lutra("evaluate", tmp_path / "shards", "--json").out)
    assert parts["cases"] == whole["cases"]


def test_a_model_file_against_its_checkpoint(lutra, checkpoint, tmp_path):
    path = checkpoint()
    model = tmp_path / "model.lutra.safetensors"
    file = quantize_file(path, model, Recipe(format="bitmod3", group_size=16))
    found = json.loads(lutra("evaluate", model, "--checkpoint", path, "--json").out)
    (case,) = found["cases"]
    assert case["group_size"] == "16"
    for item in case["layers"]:
        weights = Checkpoint(path).read(f"{item['layer']}.weight").weights
        expected = weight_error(weights, file.layer(item["layer"])).sqnr_db
        assert item["sqnr_db"] == pytest.approx(expected)
        assert item["stored_bits"] == file.bits_per_weight(item["layer"])


def test_the_layers_of_a_single_case_are_printed(lutra, checkpoint):
    out = lutra("evaluate", checkpoint()).out
    assert "a " in out
    assert "7 x 40" in out
    assert "bitmod4" in out


def test_loss_of_a_language_model(lutra, language_model, tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(TEXT)
    arguments = ["--format", "int2,int8", "--group-size", "8", "--text", text, "--windows"]
    found = json.loads(lutra("evaluate", language_model, *arguments, 0, "--json").out)
    model = TinyLM(load_file(language_model), dims=DIMS)
    assert found["float"]["perplexity"] == pytest.approx(model.perplexity(TEXT))
    coarse, fine = found["cases"]
    assert coarse["kl"] > 100 * fine["kl"] > 0
    assert coarse["loss"] == pytest.approx(found["float"]["loss"] + coarse["loss_excess"])
    rounded = load_file(language_model)
    for name in model.linear_layers():
        matrix = quantize(rounded[f"{name}.weight"], format="int2", group_size=8)
        rounded[f"{name}.weight"] = matrix.dequantize().astype(np.float32)
    assert coarse["perplexity"] == pytest.approx(TinyLM(rounded, dims=DIMS).perplexity(TEXT))
    out = lutra("evaluate", language_model, *arguments, 3).out
    assert "48 characters in 3 windows" in out
    assert "±" in out


def test_layers_that_are_left_stay_in_floating_point(language_model, tmp_path):
    model = TinyLM(load_file(language_model), dims=DIMS)
    recipe = Recipe(format="int2", group_size=8)
    file = quantize_file(language_model, tmp_path / "x", recipe, patterns=["lm_head"])
    found = evaluate_model(file, Checkpoint(language_model), test=LanguageTest(model, TEXT))
    assert len(found.layers) == 1
    assert found.score is not None
    assert found.score.excess != 0


def test_cycles_are_those_of_the_engine(lutra, checkpoint, mini, mini_file, tmp_path):
    """The predicted cycles of one token are those that a simulator of the engine counts."""
    path = checkpoint()
    options = ["--group-size", "16", "--config", mini_file, "--json"]
    found = json.loads(lutra("evaluate", path, "--format", "int4", *options).out)
    engine = mini.replace({"stream.formats": "int4"})
    file = quantize_file(path, tmp_path / "x", Recipe(format="int4", group_size=16))
    cycles = 0
    for name in file.layers:
        layer = file.layer(name)
        x = random_tokens(engine.parameters.numerics, 1, layer.columns, seed=1)
        cycles += make_backend("amaranth", engine).run(layer, x).cycles or 0
    assert found["cases"][0]["cycles"] == cycles > 0


def test_no_cycles_where_no_engine_can(lutra, checkpoint, mini_file):
    options = ["--format", "int4", "--group-size", "12", "--config", mini_file, "--json"]
    (case,) = json.loads(lutra("evaluate", checkpoint(), *options).out)["cases"]
    assert case["cycles"] is None


def test_csv_and_plot(lutra, checkpoint, mini_file, tmp_path):
    table, plot = tmp_path / "t.csv", tmp_path / "t.svg"
    options = ["--format", "int2,int4", "--group-size", "16", "--config", mini_file, "--json"]
    done = lutra("evaluate", checkpoint(), *options, "--csv", table, "--plot", plot)
    cases = json.loads(done.out)["cases"]
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["sqnr_db"]) for line in lines] == [case["sqnr_db"] for case in cases]
    assert [line["loss"] for line in lines] == ["", ""]
    circles = list(ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}circle"))
    # Two panels, in both of which fewer bits are cheaper and worse: all points are on the front.
    assert len(circles) == 2 * (2 + 2)


def test_recipes(lutra, checkpoint, tmp_path):
    recipe = tmp_path / "mix.toml"
    recipe.write_text(
        'formats = ["int2", "int4"]\nbudget = { bits = 3 }\n'
        'sensitivity = "weight"\ngroup_size = 8\n'
    )
    found = json.loads(lutra("evaluate", checkpoint(), "--recipe", recipe, "--json").out)
    (case,) = found["cases"]
    assert case["format"] == "mix.toml"
    assert case["code_bits"] == pytest.approx(3, abs=0.05)


def test_what_does_not_go_together(refused, checkpoint, language_model, tmp_path):
    path = checkpoint()
    assert "'nonsense'" in refused("evaluate", path, "--format", "nonsense")
    assert "cannot quantise" in refused("evaluate", path, "--format", "int4", "--method", "greedy")
    assert "--checkpoint goes with a model file" in refused("evaluate", path, "--checkpoint", path)
    assert "goes with --text" in refused("evaluate", path, "--windows", 3)
    recipe = tmp_path / "r.toml"
    recipe.write_text('format = "int4"\n')
    message = refused("evaluate", path, "--recipe", recipe, "--format", "int4")
    assert "--format goes without --recipe" in message
    text = tmp_path / "text.txt"
    text.write_bytes(b"short")
    message = refused("evaluate", language_model, "--text", text)
    assert message == "The text must be longer than 16 characters, not 5"
    assert "no language model" in refused("evaluate", path, "--text", text)
    model = tmp_path / "m.safetensors"
    quantize_file(path, model, Recipe(format="int4"))
    assert "give what it was made from" in refused("evaluate", model)
    message = refused("evaluate", model, "--checkpoint", path, "--format", "int4")
    assert "--format goes with a checkpoint" in message
    assert "has no layer 'a'" in refused("evaluate", model, "--checkpoint", language_model)


def test_presets_can_be_asked(lutra, checkpoint):
    options = ["--group-size", "64", "--config", "small", "--json"]
    (case,) = json.loads(lutra("evaluate", checkpoint(), *options).out)["cases"]
    assert case["cycles"] > 0
    assert "small" in PRESETS


def test_calibration_goes_to_those_that_use_it(lutra, refused, checkpoint, tmp_path):
    path = checkpoint()
    rng = np.random.default_rng(4)
    inputs = {f"{name}.inputs": rng.standard_normal((90, k)) for name, k in (("a", 40), ("b", 64))}
    calibration = tmp_path / "inputs.safetensors"
    save_file({name: x.astype(np.float32) for name, x in inputs.items()}, calibration)
    arguments = ["evaluate", path, "--format", "int3", "--json"]
    found = json.loads(lutra(*arguments, "--method", "all", "--calibration", calibration).out)
    without = json.loads(lutra(*arguments, "--method", "all").out)
    methods = [case["method"] for case in found["cases"]]
    assert {"absmax", "mse", "gptq"} <= set(methods)
    assert [case["method"] for case in without["cases"]] == [
        name for name in methods if not METHODS[name].calibrated
    ]
    assert "needs the activations" in refused(*arguments, "--method", "gptq")
    message = refused(*arguments, "--calibration", calibration)
    assert "--calibration is not used by any of the cases" in message
