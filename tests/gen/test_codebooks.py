"""Programmable codebooks in generated engines and on the command line."""

import json

import numpy as np
import pytest

from lutra.formats import CodebookFormat, QuantizedMatrix
from lutra.gen import compare_layer, generate, make_backend, random_tokens
from lutra.quant import ModelWriter
from lutra.sim import predict_cycles, random_matrix

FORMATS = "codebook4,int4,codebook3,bitmod4"
ENGINES = ("lut", "term", "mac")
VALUES = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)


def _config(mini, engine, **changes):
    settings = {"stream.formats": FORMATS, "stream.codebook_terms": "2", **changes}
    return mini.replace({"engine": engine, **settings})


@pytest.mark.parametrize("engine", ENGINES)
def test_generated_engines_are_bit_exact(mini, engine):
    """Layer by layer with other values, and in exactly as many cycles as are predicted."""
    config = _config(mini, engine)
    parameters = config.parameters
    backend = make_backend("verilator", config)
    seen = set()
    for seed, (rows, columns, tokens) in enumerate([(16, 64, 1), (13, 50, 3), (1, 7, 2)]):
        matrix = random_matrix(parameters.layout.members, rows, columns, 16, seed=seed)
        seen.update(item for item in matrix.members if isinstance(item, CodebookFormat))
        packed = parameters.pack(matrix)
        x = random_tokens(parameters.numerics, tokens, columns, seed=seed)
        run = compare_layer("l", matrix, x, config=config, backend=backend, packed=packed)
        assert run.mismatches == 0
        assert run.cycles == predict_cycles(
            packed, parameters.layout, config.timing, passes=config.interface.passes(tokens)
        )
    assert len(seen) == 6


def test_other_values_are_found(mini):
    """One entry of one codebook: the comparison would see it."""
    config = _config(mini, "mac")
    matrix = random_matrix([CodebookFormat.of(VALUES)], 16, 64, 16, seed=1)
    config = config.replace({"stream.codebook_terms": "0"})
    wrong = CodebookFormat.of([*VALUES[:9], 22, *VALUES[10:]])
    other = QuantizedMatrix(**{**matrix.__dict__, "members": (wrong,)})
    backend = make_backend("amaranth", config)
    x = random_tokens(config.parameters.numerics, 1, 64, seed=1)
    packed = config.parameters.pack(other)
    run = compare_layer("l", matrix, x, config=config, backend=backend, packed=packed)
    assert run.mismatches == np.sum((matrix.codes == 9).any(axis=1))


@pytest.mark.parametrize("engine", ENGINES)
def test_verilog_without_codebooks_knows_nothing_of_them(mini, engine):
    plain = generate(mini.replace({"engine": engine}))
    other = {"engine": engine, "stream.codebook_width": "5", "stream.codebook_terms": "3"}
    assert "codebook" not in plain.verilog
    assert generate(mini.replace(other)).verilog == plain.verilog
    assert "codebook" in generate(_config(mini, engine)).verilog


# -- command line ---------------------------------------------------------------------------------


def _model(path, values=VALUES):
    matrix = random_matrix([CodebookFormat.of(values)], 5, 40, 16, seed=1)
    with ModelWriter(path) as writer:
        writer.add("a", matrix)
    return matrix


def _toml(config, path):
    path.write_text(config.to_toml())
    return path


RECIPE = """
format = "int4"
group_size = 16
[[layers]]
match = "a"
format = "codebook4"
codebook = [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127]
"""


def test_from_a_checkpoint_to_hardware(lutra, checkpoint, tmp_path, mini):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = lutra("quantize", checkpoint(), "-o", "q.safetensors", "--recipe", "recipe.toml")
    assert done.status == 0, done
    listed = f"a: codebook4 is {', '.join(map(str, VALUES))}"
    assert listed in done.out
    assert listed in lutra("inspect", "q.safetensors").out
    first, second = json.loads(lutra("inspect", "q.safetensors", "--json").out)["layers"]
    assert first["format"] == "codebook4"
    assert first["codebooks"] == {"codebook4": list(VALUES)}
    assert "codebooks" not in second
    config = _toml(mini.replace({"stream.formats": FORMATS}), tmp_path / "c.toml")
    run = ("simulate", config, "--model", "q.safetensors", "--sim", "amaranth", "--json")
    report = json.loads(lutra(*run).out)
    assert report["bit_exact"]
    assert [layer["format"] for layer in report["layers"]] == ["codebook4", "int4"]


def test_too_many_terms(refused, mini, tmp_path):
    config = _toml(_config(mini, "term"), tmp_path / "c.toml")
    _model(tmp_path / "q.safetensors")
    assert refused("simulate", config, "--model", "q.safetensors") == (
        "Layer 'a' does not fit mini: Codebook entry 1 is -88, which needs 3 signed powers of two; "
        "the configuration's codebook_terms is 2"
    )


def test_too_wide(refused, mini, tmp_path):
    config = _toml(_config(mini, "lut", **{"stream.codebook_width": "7"}), tmp_path / "c.toml")
    _model(tmp_path / "q.safetensors")
    assert refused("simulate", config, "--model", "q.safetensors") == (
        "Layer 'a' does not fit mini: Codebook entry 0 is -127, which needs 8 bits; "
        "the configuration's codebook_width is 7"
    )


def test_no_slot(refused, mini_file, tmp_path):
    _model(tmp_path / "q.safetensors")
    assert refused("simulate", mini_file, "--model", "q.safetensors").startswith(
        "Layer 'a' does not fit mini: Format 'codebook4' is not one that the configuration decodes:"
    )


def test_no_terms_for_a_term_engine(refused):
    settings = ("--set", "engine=term", "--set", "stream.formats=codebook3")
    sentence = "codebook_terms must be at least 1 for a term engine that decodes codebooks, not 0"
    assert sentence in refused("generate", "tiny", *settings)


@pytest.mark.parametrize(
    ("codebook", "sentence"),
    [
        ("[1, 2, 3]", "A codebook must have 8 or 16 entries, not 3"),
        (f"{list(range(8))}", "The codebook of format 'codebook4' must have 16 entries, not 8"),
        (
            f"{[*VALUES[:15], 128]}",
            "Codebook entries must be integers in -128..127, but entry 15 is 128",
        ),
        (
            f"{[*VALUES[:15], 0.5]}",
            "Codebook entries must be integers in -128..127, but entry 15 is 0.5",
        ),
        ("7", "A codebook must be a list of integers, not 7"),
        (f"{[0] * 16}", "A codebook to quantise with must have an entry other than 0"),
    ],
)
def test_bad_recipes(refused, checkpoint, tmp_path, codebook, sentence):
    path = tmp_path / "recipe.toml"
    path.write_text(f'format = "codebook4"\ncodebook = {codebook}\n')
    command = ("quantize", checkpoint(), "-o", "q.safetensors", "--recipe", "recipe.toml")
    assert refused(*command) == f"Recipe recipe.toml: {sentence}"


def test_no_values(refused, checkpoint):
    sentence = (
        "Format 'codebook3' has no values of its own; a recipe gives them as 'codebook', a list of "
        "8 integers"
    )
    command = ("quantize", checkpoint(), "-o", "q.safetensors", "--format", "codebook3")
    assert refused(*command) == sentence
    assert refused("simulate", "tiny", "--shape", "8x16", "--format", "codebook3") == sentence


def test_a_model_file_with_a_codebook_of_the_wrong_length(refused, tmp_path):
    path = tmp_path / "q.safetensors"
    _model(path)
    raw = path.read_bytes()
    # As long as before, so that the header's length stays right.
    listed = ", ".join(map(str, VALUES))
    assert raw.count(listed.encode()) == 1
    changed = listed.replace("92, 127", "92 ").ljust(len(listed))
    path.write_bytes(raw.replace(listed.encode(), changed.encode()))
    assert "A codebook must have 8 or 16 entries, not 15" in refused("inspect", path)


@pytest.mark.parametrize("name", ["codebook3", "codebook4"])
def test_formats(lutra, name):
    assert name in lutra("formats").out
    shown = lutra("formats", name)
    assert shown.status == 0
    assert f"a codebook of {1 << int(name[-1])} integers in -128..127" in shown.out
    (described,) = json.loads(lutra("formats", name, "--json").out)["members"]
    assert described["name"] == name
    assert described["entries"] == 1 << described["code_bits"]
