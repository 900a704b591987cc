"""Recipe files on the command line."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.quant import FileError, ModelFile, load_recipe, recipe_hash

MIX = """
formats = ["int2", "int3", "int4"]
group_size = 8
budget = { bits = 3 }
sensitivity = "weight"
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text=MIX, name="mix.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def calibration(tmp_path):
    rng = np.random.default_rng(4)
    tensors = {
        "a.inputs": rng.standard_normal((9, 40)).astype(np.float32),
        "b.inputs": rng.standard_normal((9, 64)).astype(np.float32),
    }
    save_file(tensors, tmp_path / "inputs.safetensors")
    return tmp_path / "inputs.safetensors"


def test_a_mixture(lutra, checkpoint, recipe):
    path = recipe()
    done = lutra("quantize", checkpoint(), "-o", "q", "--recipe", path, "--json")
    assert done.status == 0, done
    report = json.loads(done.out)
    assert report == json.loads(lutra("inspect", "q", "--json").out)
    assert report["recipe"] == json.loads(load_recipe(path).to_json())
    assert report["code_bits"] == 3
    (allocation,) = report["allocations"]
    assert allocation["spent"] == 3
    assert allocation["exact"] is True
    model = ModelFile("q")
    for layer in report["layers"]:
        matrix = model.layer(layer["layer"])
        assert layer["format"] == ""
        assert layer["code_bits"] == matrix.code_bits / matrix.codes.size
        names = np.array([item.name for item in matrix.members])
        chosen = names[matrix.expand(matrix.format_ids)]
        assert layer["shares"] == {
            name: pytest.approx(float((chosen == name).mean())) for name in names
        }
        assert sum(layer["groups"].values()) == matrix.format_ids.size


def test_inspect_shows_formats_and_shares(lutra, checkpoint, recipe):
    path = recipe(MIX.replace('"int3"', '"bitmod3"') + '[[layers]]\nmatch = "b"\nformat = "int5"')
    lutra("quantize", checkpoint(), "-o", "q", "--recipe", path)
    report = json.loads(lutra("inspect", "q", "--json").out)
    shown = lutra("inspect", "q").out
    mixed, plain = report["layers"] if report["layers"][0]["format"] == "" else (
        report["layers"][::-1])  # fmt: skip
    assert set(mixed["shares"]) == {"int2", "bitmod3", "int4"}
    assert set(mixed["groups"]) > {"int2", "bitmod3_m3", "bitmod3_p6"}
    assert "mixture" in shown
    flat = " ".join(shown.replace("│", " ").split())
    for name, share in mixed["shares"].items():
        assert f"{name} {100 * share:.1f} %" in flat
    assert plain["format"] == "int5"
    assert plain["shares"] == {"int5": 1.0}
    assert plain["code_bits"] == 5
    assert f"{report['code_bits']:.3f} code bits" in flat


def test_calibration(lutra, checkpoint, recipe, calibration):
    slim = 'formats = ["int2", "int3", "int4"]\nallocator = "slim"\nbudget = { bits = 3 }\n'
    path = recipe(slim + "group_size = 8")
    done = lutra(
        "quantize",
        checkpoint(),
        "-o",
        "q",
        "--recipe",
        path,
        "--calibration",
        calibration,
        "--json",
    )
    assert done.status == 0, done
    report = json.loads(done.out)
    assert report["code_bits"] == 3
    assert report["recipe"]["sensitivity"] == "kl"


def test_a_uniform_recipe_file(lutra, checkpoint, recipe):
    path = recipe('format = "int4"\nmethod = "mse"\ngroup_size = "row"\nscale_width = 6')
    options = ("--format", "int4", "--method", "mse", "--group-size", "row", "--scale-width", 6)
    by_file = lutra("quantize", checkpoint(), "-o", "q", "--recipe", path, "--json")
    by_options = lutra("quantize", checkpoint(), "-o", "q", *options, "--json")
    assert by_file == by_options


CANNOT = "cannot be met with int2, int3, int4; the least is"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MIX.replace("3 }", "1.5 }"), f"A mean of 1.5 bits {CANNOT} 2.0"),
        # 600 codes of 2 bits and 75 scales of 9 bits.
        (MIX.replace("bits = 3", "bytes = 9"), f"A budget of 9 bytes {CANNOT} 235"),
        (MIX.replace('"int3"', '"int33"'), "Unknown format 'int33'; known formats: int2, "),
        (MIX + '[[layers]]\nmatch = "x.*"\nformat = "int4"', "matches no layer of "),
        (MIX.replace('"weight"', '"kl"'), "Sensitivity 'kl' needs the activations of calibration "),
        (MIX + "speed = 3", "Unknown key 'speed' of a mixture"),
        ("[[[", " is not TOML: "),
    ],
)
def test_refused(refused, checkpoint, recipe, text, sentence):
    found = refused("quantize", checkpoint(), "-o", "q", "--recipe", recipe(text))
    assert sentence in found


@pytest.mark.parametrize("option", ["--format", "--group-size", "--method", "--scale-width"])
def test_options_that_a_recipe_has(refused, checkpoint, recipe, option):
    value = {"--format": "int4", "--method": "mse"}.get(option, 8)
    found = refused("quantize", checkpoint(), "-o", "q", "--recipe", recipe(), option, value)
    assert found.startswith(f"{option} goes without --recipe")


def test_a_calibration_that_nobody_reads(refused, checkpoint, recipe, calibration):
    words = ("quantize", checkpoint(), "-o", "q", "--calibration", calibration)
    assert "is not used; no layer gets a mixture" in refused(*words)
    uniform = recipe('format = "int4"')
    assert "is not used; no layer gets a mixture" in refused(*words, "--recipe", uniform)
    assert refused(*words[:-1], "none", "--recipe", recipe()) == "There is no file none"


def test_no_such_recipe(refused, checkpoint):
    found = refused("quantize", checkpoint(), "-o", "q", "--recipe", "none.toml")
    assert found == "There is no file none.toml"


def test_cycles_of_an_engine(lutra, refused, checkpoint, recipe):
    """Five planes of bitmod4 are over a budget of 4 cycles; bit-serial terms are not."""
    text = MIX.replace('"int3", "int4"', '"bitmod4"')
    words = (
        "quantize",
        checkpoint(),
        "-o",
        "q",
        "--recipe",
        recipe(text.replace("bits = 3", "cycles = 4")),
    )
    lutra(*words)
    assert json.loads(lutra("inspect", "q", "--json").out)["code_bits"] < 4
    lutra("generate", "mixed", "-o", "term", "--set", "engine=term")
    lutra(*words, "--config", "term/lutra_mixed.toml")
    assert json.loads(lutra("inspect", "q", "--json").out)["code_bits"] == 4
    assert refused(*words, "--config", "tiny") == (
        "tiny does not decode the recipe's format 'int2', only bitmod4, int4; add it to "
        "stream.formats or take it out of the recipe; see lutra quantize --help"
    )
    assert refused(*words[:-1], recipe(), "--config", "mixed").startswith(
        "--config goes with a recipe whose budget is in cycles"
    )
    assert refused(*words[:-2], "--config", "mixed").startswith("--config goes with --recipe")


def test_a_method_with_options(lutra, refused, checkpoint, recipe, calibration):
    words = ("quantize", checkpoint(), "-o", "q", "--format", "int3", "--group-size", 8)
    gptq = (*words, "--method", "gptq", "--calibration", calibration)
    done = lutra(*gptq, "--option", "damping=0.5", "--option", "order=activation", "--json")
    assert done.status == 0, done
    report = json.loads(done.out)
    assert report["recipe"]["options"] == {
        "base": "auto", "damping": 0.5, "scales": "along", "order": "activation"
    }  # fmt: skip
    first = ModelFile("q").path.read_bytes()
    text = 'format = "int3"\ngroup_size = 8\nmethod = "gptq"\n'
    path = recipe(text + 'options = { damping = 0.5, order = "activation" }')
    by_file = lutra(*words[:4], "--recipe", path, "--calibration", calibration, "--json")
    assert by_file == done
    assert ModelFile("q").path.read_bytes() == first
    assert report["recipe_sha256"] == recipe_hash(json.dumps(report["recipe"]))
    assert len(report["calibration_sha256"]) == 64
    assert "has no option 'damp'; its options: base," in refused(*gptq, "--option", "damp=1")
    assert "written name=value" in refused(*gptq, "--option", "damping")
    assert "Method 'gptq' needs the activations" in refused(*gptq[:-2])
    assert "Method 'absmax' has no option" in refused(*words, "--option", "damping=1")
    found = refused(*words[:4], "--recipe", path, "--option", "damping=1")
    assert found.startswith("--option goes without --recipe")


def test_a_recipe_that_was_changed_in_the_file(lutra, checkpoint):
    lutra("quantize", checkpoint(), "-o", "q", "--format", "int3")
    path = ModelFile("q").path
    path.write_bytes(
        path.read_bytes().replace(b'\\"group_size\\": 128', b'\\"group_size\\": 129', 1)
    )
    with pytest.raises(FileError, match="its recipe has not the recorded SHA-256"):
        ModelFile("q").verify()
