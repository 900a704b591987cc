"""``lutra quantize --from`` and ``lutra export``."""

import json

import numpy as np
import pytest

from lutra.quant import ModelFile
from lutra.quant.imports import CheckpointSource
from lutra.sim.more_sample_checkpoints import ALL_SAMPLES, write_anybcq, write_bitnet
from lutra.sim.sample_checkpoints import write_gptq


@pytest.fixture
def gptq(tmp_path):
    return write_gptq(tmp_path / "in", np.random.default_rng(1), act_order=True)


@pytest.mark.parametrize("origin", [(), ("--from", "auto"), ("--from", "gptq")])
def test_an_import(lutra, gptq, origin):
    done = lutra("quantize", "in", "-o", "m", *origin)
    assert done.status == 0
    assert "Imported from gptq, without rounding" in done.out
    left_out = "Left out, of no quantised layer: 1 tensors: model.embed_tokens.weight"
    assert left_out in done.out
    found = ModelFile("m").layer("model.a").dequantize()
    assert np.array_equal(found.astype(np.float32), gptq.weights["model.a"])


def test_an_import_as_json(lutra, gptq):
    report = json.loads(lutra("quantize", "in", "-o", "m", "--json").out)
    assert report["imported_from"] == "gptq"
    assert report["left_out"] == ["model.embed_tokens.weight"]
    assert [layer["layer"] for layer in report["layers"]] == ["model.a"]


@pytest.mark.parametrize("name", ALL_SAMPLES)
def test_every_importer(lutra, tmp_path, name):
    sample = ALL_SAMPLES[name](tmp_path / "in", np.random.default_rng(1))
    done = lutra("quantize", sample.path, "-o", "m")
    assert done.status == 0
    assert ModelFile("m").layers == tuple(sample.weights)


def test_a_precision(lutra, refused, tmp_path):
    sample = write_anybcq(tmp_path / "in", np.random.default_rng(1), precision=3)
    assert lutra("quantize", "in", "-o", "m", "--precision", "3").status == 0
    (layer,) = sample.weights
    found = ModelFile("m").layer(layer).dequantize()
    assert np.array_equal(found.astype(np.float32), sample.weights[layer])
    assert refused("quantize", "in", "-o", "n", "--precision", "5") == (
        "The precisions of in are 2, 3, 4, not 5"
    )
    floats = ("quantize", "m", "-o", "n", "--from", "float", "--precision", "3")
    sentence = "--precision goes with a checkpoint that is quantised already"
    assert refused(*floats).startswith(sentence)


def test_an_inverse_that_is_rounded_is_said(lutra, tmp_path):
    write_bitnet(tmp_path / "in", np.random.default_rng(1), linear_class="bitlinear")
    done = lutra("quantize", "in", "-o", "m")
    assert "Imported from bitnet\nlinear_class 'bitlinear' divides by weight_scale" in done.out


def test_floats_of_a_quantised_checkpoint(lutra, gptq):
    chosen = ("--from", "float", "--layers", "*embed*", "--format", "int4")
    done = lutra("quantize", "in", "-o", "m", *chosen)
    assert done.status == 0
    assert ModelFile("m").layers == ("model.embed_tokens",)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--format", "int4"), "--format does not go with a checkpoint of gptq, which is imported"),
        (("--group-size", "32"), "--group-size does not go with"),
        (("--scale-width", "8"), "--scale-width does not go with"),
        (("--method", "absmax"), "--method does not go with"),
        (("--recipe", "x"), "--recipe does not go with"),
        (("--calibration", "x"), "--calibration does not go with"),
        (("--config", "x"), "--config does not go with"),
        (("--precision", "4"), "in has one precision, so that none can be chosen"),
        (("--from", "awq"), "in is not a checkpoint of awq"),
        (("--from", "marlin"), "Invalid value for '--from': 'marlin' is not one of 'auto', "),
        (("--layers", "x"), "Pattern 'x' matches no quantised layer of in; it has model.a"),
    ],
)
def test_refused_options(refused, gptq, arguments, sentence):
    assert refused("quantize", "in", "-o", "m", *arguments).startswith(sentence)


def test_an_unknown_method(refused, gptq):
    config = {"quant_method": "aqlm", "bits": 2}
    (gptq.path / "quantize_config.json").write_text(json.dumps(config))
    assert refused("quantize", "in", "-o", "m").startswith(
        "in is quantised by 'aqlm', which Lutra does not import; it imports gptq, awq, "
    )


@pytest.mark.parametrize("target", ["gptq", "compressed-tensors"])
def test_an_export(lutra, gptq, target):
    lutra("quantize", "in", "-o", "m")
    done = lutra("export", "m", "--to", target, "-o", "out")
    assert done.status == 0
    assert f"out: 1 layers as {target}, without rounding: model.safetensors" in done.out
    lutra("quantize", "out", "-o", "m2")
    assert np.array_equal(
        ModelFile("m").layer("model.a").dequantize(), ModelFile("m2").layer("model.a").dequantize()
    )


def test_an_export_as_json(lutra, gptq):
    lutra("quantize", "in", "-o", "m")
    report = json.loads(lutra("export", "m", "--to", "gptq", "-o", "out", "--json").out)
    assert report == {
        "folder": "out",
        "format": "gptq",
        "files": ["model.safetensors", "quantize_config.json", "config.json"],
        "layers": ["model.a"],
        "scale_change": 0.0,
    }
    assert len(CheckpointSource("out").tensor_names) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("m",), "Missing option '--to'"),
        (("m", "--to", "gguf", "-o", "x"), "Invalid value for '--to': 'gguf' is not one of"),
        (("none", "--to", "gptq", "-o", "x"), "There is no file none"),
        (("m", "--to", "gptq", "-o", "in"), "Cannot write into in: it must be a new or an empty"),
        (("m", "--to", "gptq", "-o", "m"), "Cannot write into m: it must be a new or an empty"),
        (("m", "--to", "gptq", "-o", "/proc/x"), "Cannot write into /proc/x: No such file"),
    ],
)
def test_refused_exports(lutra, refused, gptq, arguments, sentence):
    lutra("quantize", "in", "-o", "m")
    assert refused("export", *arguments).startswith(sentence)
