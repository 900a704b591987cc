import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.formats import CATALOG
from lutra.gen import (
    PRESETS,
    EngineError,
    command_compare,
    command_simulate,
    compare_layer,
    load_config,
    make_backend,
)
from lutra.gen.compare import compare_backends
from lutra.quant import ModelFile

from .faulty import Faulty

COMMANDS = [
    "formats",
    "quantize",
    "inspect",
    "export",
    "evaluate",
    "advise",
    "generate",
    "simulate",
    "compare",
    "synth",
]
LUTRA = str(Path(sys.executable).with_name("lutra"))


def run_shell(line, **options):
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("lutra", LUTRA, 1)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


# -- help -----------------------------------------------------------------------------------------


def test_help_alone_and_on_demand(lutra):
    bare, asked = lutra(), lutra("--help")
    assert bare == asked
    assert bare.status == 0
    assert bare.err == ""
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", bare.out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_ends_with_an_example(lutra, command, option):
    done = lutra(command, option)
    assert done.status == 0
    *_, title, example = done.out.rstrip().splitlines()
    assert title.strip() == "Example:"
    assert example.strip().startswith(f"lutra {command} ")
    assert "--json" in done.out


def test_examples_work(lutra, checkpoint):
    """Run the examples of all commands, with a smaller layer and no compiler."""
    checkpoint("model.safetensors")
    for command in COMMANDS:
        example = lutra(command, "--help").out.rstrip().splitlines()[-1].split()[1:]
        if command == "simulate":
            example = [word.replace("1024", "32") for word in example] + ["--sim", "numpy"]
        if command == "compare":
            example = [word.replace("128", "32") for word in example]
        if command == "synth":  # takes minutes: tests/gen/synth has it
            continue
        if command == "export":  # of integers only
            lutra("quantize", "model.safetensors", "--format", "int4", "-o", example[1])
        done = lutra(*example)
        assert done.status == 0, done
    assert Path("build/small/lutra_small.v").is_file()
    assert Path("model.lutra.safetensors").is_file()


def test_version(lutra):
    assert lutra("--version").out.split()[-1] == version("lutra")


# -- commands -------------------------------------------------------------------------------------


def test_formats(lutra):
    listed = lutra("formats").out
    for name, entry in CATALOG.items():
        assert name in listed
        assert entry.summary in listed


def test_block_format(lutra):
    shown = lutra("formats", "nvfp4").out
    assert shown.startswith("nvfp4: blocks of 16 weights of float4_e2m1, whose scales method 'nv' ")
    described = json.loads(lutra("formats", "nvfp4", "--json").out)
    assert (described["name"], described["group_size"]) == ("nvfp4", 16)
    assert [item["name"] for item in described["members"]] == ["float4_e2m1"]


@pytest.mark.parametrize("name", CATALOG)
def test_one_format(lutra, name):
    shown = lutra("formats", name)
    assert shown.status == 0
    assert all(item.name in shown.out for item in CATALOG[name].members)
    described = json.loads(lutra("formats", name, "--json").out)
    assert described["name"] == name
    for item, data in zip(CATALOG[name].members, described["members"], strict=True):
        assert data["name"] == item.name
        assert data["code_bits"] == item.code_width
        # What is printed is enough to compute every value.
        for code in range(1 << item.code_width):
            value = sum(
                plane["coefficient"] * plane["digits"][int(plane["truth"], 16) >> code & 1]
                for plane in data["planes"]
            )
            if "values" in data:
                assert value == data["values"][code] == sum(data["terms"][code])


def test_quantize_and_inspect(lutra, checkpoint):
    done = lutra("quantize", checkpoint(), "-o", "q.safetensors", "--group-size", 16, "--json")
    report = json.loads(done.out)
    assert report == json.loads(lutra("inspect", "q.safetensors", "--json").out)
    model = ModelFile("q.safetensors")
    model.verify()
    assert report["file"] == "q.safetensors"
    assert report["recipe"]["format"] == "bitmod4"
    assert report["recipe"]["group_size"] == 16
    assert report["weights"] == 7 * 40 + 5 * 64
    assert [layer["layer"] for layer in report["layers"]] == list(model.layers)
    assert {layer["layer"] for layer in report["layers"]} == {"a", "b"}
    bits = 8 * sum(model.stored_bytes(name) for name in model.layers)
    assert report["bits_per_weight"] == bits / report["weights"]
    shown = lutra("inspect", "q.safetensors").out
    for part in ("7 x 40", "5 x 64", "bitmod4", f"{report['bits_per_weight']:.3f} bits as stored"):
        assert part in shown


def test_options_of_quantize(lutra, checkpoint):
    arguments = ("--format", "bcq2", "--group-size", "row", "--method", "greedy")
    more = ("--scale-width", 6, "--layers", "a*", "--layers", "b.weight", "--json")
    report = json.loads(lutra("quantize", checkpoint(), "-o", "q", *arguments, *more).out)
    recipe = {"format": "bcq2", "group_size": None, "method": "greedy", "scale_width": 6}
    assert report["recipe"] == recipe
    assert len(report["layers"]) == 2


def test_generate_writes_three_files(lutra, mini_file, mini, generated):
    done = lutra("generate", mini_file, "-o", "out")
    assert done.status == 0
    text, manifest, config = (Path("out") / f"mini.{end}" for end in ("v", "json", "toml"))
    assert text.read_text() == generated(mini).verilog
    assert load_config(str(config)) == mini
    assert json.loads(manifest.read_text())["name"] == "mini"
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "mini.json",
        "mini.toml",
        "mini.v",
    ]
    for path in (text, manifest, config):
        assert str(path) in done.out
    # What was generated from its own configuration is the same again.
    again = lutra("generate", config, "-o", "again", "--json")
    report = json.loads(again.out)
    assert report.pop("files") == [f"again/mini.{end}" for end in ("v", "json", "toml")]
    assert report == json.loads(manifest.read_text())
    assert (Path("again") / "mini.v").read_bytes() == text.read_bytes()


def test_generate_with_settings(lutra, mini_file):
    settings = ("--set", "name=other", "--set", " core.mu = 3", "--set", "stream.formats=int2,int3")
    report = json.loads(lutra("generate", mini_file, *settings, "--json").out)
    assert report["name"] == "other"
    assert report["configuration"]["core"]["mu"] == 3
    assert report["configuration"]["stream"]["formats"] == ["int2", "int3"]
    assert Path("build/other.v").is_file()


def test_presets_are_listed(lutra):
    shown = lutra("generate", "--list").out
    assert all(name in shown for name in PRESETS)
    data = json.loads(lutra("generate", "--list", "--json").out)
    assert data == {name: preset.to_dict() for name, preset in PRESETS.items()}


# -- simulate -------------------------------------------------------------------------------------

SMALL = ("--shape", "7x40", "--format", "int4", "--group-size", "16", "--tokens", "2")


@pytest.mark.parametrize("sim", ["verilator", "amaranth", "numpy"])
def test_simulate(lutra, mini_file, sim):
    done = lutra("simulate", mini_file, *SMALL, "--sim", sim, "--json")
    assert done.status == 0
    report = json.loads(done.out)
    assert report["bit_exact"] is True
    assert report["mismatches"] == 0
    assert report["outputs"] == 14
    assert report["sim"] == sim
    assert report["format"] == "int4"
    assert (report["cycles"] is None) == (sim == "numpy")
    shown = lutra("simulate", mini_file, *SMALL, "--sim", sim)
    assert "14 outputs, bit-exact; utilisation " in shown.out


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")
def test_simulate_with_icarus(lutra, mini_file):
    report = json.loads(lutra("simulate", mini_file, *SMALL, "--sim", "icarus", "--json").out)
    assert report["bit_exact"] is True
    assert report["sim"] == "icarus"


def test_simulate_a_model(lutra, checkpoint, mini_file):
    lutra("quantize", checkpoint(), "-o", "q", "--format", "int4", "--group-size", 16)
    options = ("--model", "q", "--sim", "amaranth", "--json")
    report = json.loads(lutra("simulate", mini_file, *options).out)
    assert report["bit_exact"] is True
    assert [layer["layer"] for layer in report["layers"]] == list(ModelFile("q").layers)
    one = json.loads(lutra("simulate", mini_file, *options, "--layers", "[b]").out)
    assert [layer["layer"] for layer in one["layers"]] == ["b"]
    assert one["outputs"] == 4 * 5


def test_seeds_choose_the_numbers(lutra, mini_file, monkeypatch):
    seen = []

    def watch(name, matrix, x, **options):
        seen.append((matrix.codes.tobytes(), x.tobytes()))
        return compare_layer(name, matrix, x, **options)

    monkeypatch.setattr(command_simulate, "compare_layer", watch)
    for seed in (1, 1, 2):
        lutra("simulate", mini_file, *SMALL, "--sim", "numpy", "--seed", seed)
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]
    assert seen[0][1] != seen[2][1]


class Inverted:
    """The golden model with one wrong bit."""

    def __init__(self, config):
        self._inner = make_backend("numpy", config)

    def run(self, matrix, x, *, packed=None):
        """Run the golden model and invert the lowest bit of the first output."""
        run = self._inner.run(matrix, x, packed=packed)
        outputs = run.outputs.copy()
        outputs.view("u4")[0, 0] ^= 1
        return replace(run, outputs=outputs)


@pytest.mark.parametrize("as_json", [True, False])
def test_one_wrong_bit_is_status_1(lutra, mini_file, monkeypatch, as_json):
    monkeypatch.setattr(command_simulate, "make_backend", lambda _, config, __: Inverted(config))
    done = lutra("simulate", mini_file, *SMALL, *(["--json"] if as_json else []))
    assert done.status == 1
    assert done.err == ""
    if as_json:
        report = json.loads(done.out)
        assert report["bit_exact"] is False
        assert report["mismatches"] == 1
    else:
        assert "14 outputs, 1 DIFFER; utilisation" in done.out


def test_an_engine_that_stops_is_status_1(refused, mini_file, monkeypatch):
    def fail(*arguments, **options):
        raise EngineError("The engine stopped with error CRC after 7 cycles")

    monkeypatch.setattr(command_simulate, "compare_layer", fail)
    sentence = refused("simulate", mini_file, *SMALL, "--sim", "numpy", status=1)
    assert sentence == "The engine stopped with error CRC after 7 cycles"


@pytest.mark.parametrize("activation", ["int8", "bfloat16", "float32"])
def test_activations_of_other_types(lutra, mini_file, activation):
    width = 8 if activation == "int8" else 12
    settings = [f"numerics.activation={activation}", f"numerics.act_width={width}"]
    changes = [word for setting in settings for word in ("--set", setting)]
    done = lutra("simulate", mini_file, *SMALL, *changes, "--sim", "amaranth", "--json")
    assert json.loads(done.out)["bit_exact"] is True


# -- compare --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sims",
    [
        "numpy,verilator,amaranth",
        pytest.param(
            "icarus,numpy",
            marks=pytest.mark.skipif(
                shutil.which("iverilog") is None, reason="needs Icarus Verilog"
            ),
        ),
        pytest.param(
            "numpy,torch,triton",
            marks=pytest.mark.skipif(
                any(find_spec(package) is None for package in ("torch", "triton")),
                reason="needs the extra 'gpu'",
            ),
        ),
    ],
)
def test_compare(lutra, mini_file, sims):
    done = lutra("compare", mini_file, *SMALL, "--backends", sims, "--json")
    assert done.status == 0
    report = json.loads(done.out)
    names = sims.split(",")
    assert report["equal"] is True
    assert report["differences"] == 0
    assert report["outputs"] == 14
    assert report["config"] == "mini"
    assert report["backends"] == names
    assert set(report["seconds"]) == set(names)
    assert report["first_difference"] is None
    (item,) = report["layers"]
    assert item["tokens"][0] == "normal"
    assert len(item["pairs"]) == len(names) * (len(names) - 1) // 2
    shown = lutra("compare", mini_file, *SMALL, "--backends", sims).out
    assert f"14 outputs of {len(names)} back ends, 0 differences; " in shown
    assert f"Outputs that differ from those of {names[0]}" in shown


def test_compare_layers_of_a_model(lutra, checkpoint, mini_file):
    lutra("quantize", checkpoint(), "-o", "q", "--format", "int4", "--group-size", 16)
    words = ("--model", "q", "--backends", "numpy,amaranth", "--json")
    report = json.loads(lutra("compare", mini_file, *words, "--tokens", 3).out)
    assert report["equal"] is True
    assert [layer["layer"] for layer in report["layers"]] == list(ModelFile("q").layers)
    assert report["outputs"] == 3 * (7 + 5)
    kinds = [layer["tokens"] for layer in report["layers"]]
    assert kinds[0][0] == kinds[1][0] == "normal"
    assert not set(kinds[0][1:]) & set(kinds[1][1:])
    one = json.loads(lutra("compare", mini_file, *words, "--layers", "[b]").out)
    assert [layer["layer"] for layer in one["layers"]] == ["b"]


def test_compare_with_given_inputs(lutra, checkpoint, mini_file, tmp_path, monkeypatch):
    lutra("quantize", checkpoint(), "-o", "q", "--format", "int4", "--group-size", 16)
    inputs = np.random.default_rng(1).standard_normal((5, 40)).astype(np.float32)
    save_file({"a.inputs": inputs, "b.inputs": np.ones((1, 64), np.float16)}, tmp_path / "in")
    seen = []

    def watch(name, matrix, x, **options):
        seen.append((name, x))
        return compare_backends(name, matrix, x, **options)

    monkeypatch.setattr(command_compare, "compare_backends", watch)
    words = ("--model", "q", "--inputs", "in", "--tokens", 3, "--backends", "numpy,amaranth")
    report = json.loads(lutra("compare", mini_file, *words, "--json").out)
    assert report["equal"] is True
    tokens = {layer["layer"]: layer["tokens"] for layer in report["layers"]}
    assert tokens == {"a": ["input 0", "input 1", "input 2"], "b": ["input 0"]}
    given = dict(seen)
    assert np.array_equal(given["a"], inputs[:3].astype(np.float16))
    assert given["a"].dtype == np.float16


def plant(monkeypatch, **faults):
    """Make one of the back ends faulty."""

    def make(name, config, progress):
        return Faulty(config, **faults) if name == "amaranth" else make_backend(name, config)

    monkeypatch.setattr(command_compare, "make_backend", make)


PAIR = ("--backends", "numpy,amaranth")


def test_compare_tells_the_first_difference(lutra, mini_file, monkeypatch):
    def too_narrow(scales, group, row):
        return np.clip(scales, -3, 3) if group == 1 else scales

    plant(monkeypatch, scale=too_narrow)
    done = lutra("compare", mini_file, *SMALL, *PAIR, "--json")
    assert (done.status, done.err) == (1, "")
    report = json.loads(done.out)
    assert report["equal"] is False
    (pair,) = report["layers"][0]["pairs"]
    first = report["first_difference"]
    assert report["differences"] == pair["differences"] == report["layers"][0]["differences"] > 0
    assert pair["first"] == {key: first[key] for key in ("token", "row", "bits")}
    assert (first["layer"], first["token"], first["row"]) == ("random", 0, 0)
    assert first["bits"]["numpy"] == first["golden"] != first["bits"]["amaranth"]
    found = first["intermediate"]
    assert (found["kind"], found["group"]) == ("group sum", 1)
    expected, wrong = found["expected"], found["observed"]["amaranth"]
    assert found["observed"]["numpy"] == expected != wrong

    shown = lutra("compare", mini_file, *SMALL, *PAIR)
    assert (shown.status, shown.err) == (1, "")
    assert f"14 outputs of 2 back ends, {report['differences']} DIFFERENCES; numpy" in shown.out
    bits = first["bits"]
    assert (
        f"First difference: layer random, token 0 (normal), row 0: numpy {bits['numpy']}, "
        f"amaranth {bits['amaranth']}; golden {bits['numpy']}\n"
        f"First intermediate that differs: group sum of group 1 (columns 16 to 31)"
    ) in shown.out
    assert shown.out.endswith(f": numpy {expected}, amaranth {wrong}; golden {expected}\n")
    assert "Pairs that differ" in shown.out


def test_compare_says_when_no_intermediate_differs(lutra, mini_file, monkeypatch):
    plant(monkeypatch, outputs=lambda y: np.roll(y, 1, axis=1))
    done = lutra("compare", mini_file, *SMALL, *PAIR)
    assert done.status == 1
    assert "First intermediate that differs: none; with this token and this row alone" in done.out


def test_compare_says_what_stopped_the_search(lutra, mini_file, monkeypatch):
    class Once(Faulty):
        def run(self, *arguments, **options):
            if self.runs:
                raise EngineError("It stopped")
            return super().run(*arguments, **options)

    def make(name, config, progress):
        wrong = Once(config, outputs=lambda y: -y)
        return wrong if name == "amaranth" else make_backend(name, config)

    monkeypatch.setattr(command_compare, "make_backend", make)
    done = lutra("compare", mini_file, *SMALL, *PAIR)
    assert done.status == 1
    assert done.out.endswith("First intermediate that differs: not found; It stopped\n")


def test_an_engine_that_stops_while_comparing_is_status_1(refused, mini_file, monkeypatch):
    def fail(y):
        raise EngineError("The engine stopped with error CRC after 7 cycles")

    plant(monkeypatch, outputs=fail)
    sentence = refused("compare", mini_file, *SMALL, *PAIR, status=1)
    assert sentence == (
        "Layer 'random' on amaranth: The engine stopped with error CRC after 7 cycles"
    )


# -- standard streams -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("formats",),
        ("formats", "bitmod3"),
        ("quantize", "model.safetensors", "-o", "q2"),
        ("inspect", "q"),
        ("generate", "MINI"),
        ("generate", "--list"),
        ("simulate", "MINI", *SMALL, "--sim", "numpy"),
        ("compare", "MINI", *SMALL, "--backends", "numpy,amaranth"),
    ],
)
def test_json_is_one_object_and_nothing_else(lutra, checkpoint, mini_file, arguments):
    lutra("quantize", checkpoint(), "-o", "q")
    words = [mini_file if word == "MINI" else word for word in arguments]
    done = lutra(*words, "--json")
    assert done.status == 0
    assert done.err == ""
    # This refuses anything before or after the object, and numbers that JSON has not.
    assert isinstance(json.loads(done.out, parse_constant=pytest.fail), dict)


def test_progress_goes_to_standard_error(lutra, mini_file, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = lutra("simulate", mini_file, *SMALL, "--sim", "numpy", "--json")
    assert json.loads(done.out)["bit_exact"] is True
    assert "random" in done.err


def test_the_installed_program():
    done = run_shell("lutra formats int2 --json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["name"] == "int2"
    done = run_shell("lutra formats none")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("lutra: Unknown format 'none'; known formats: int2, ")


@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("arguments", ["formats", "formats int8 --json", "generate --list"])
def test_a_reader_that_stops_early(reader, arguments):
    done = run_shell(f"lutra {arguments} | {reader}")
    assert (done.returncode, done.stderr) == (0, "")
    assert run_shell(f"lutra --help | {reader}").stderr == ""


def test_nobody_reads():
    done = run_shell("lutra formats >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk():
    done = run_shell("lutra formats > /dev/full")
    assert (done.returncode, done.stderr) == (2, "lutra: No space left on device\n")


def test_a_terminal_without_unicode():
    done = run_shell("lutra formats bitmod3", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.isascii()


# -- interruption ---------------------------------------------------------------------------------


def test_ctrl_c(lutra, mini_file, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_simulate, "make_backend", interrupt)
    done = lutra("simulate", mini_file, *SMALL)
    assert done.status == 130
    assert done.out == ""
    assert done.err.strip() == ""


def test_ctrl_c_from_outside():
    words = ["simulate", "tiny", "--shape", "256x1024", "--group-size", "64", "--sim", "amaranth"]
    text = (
        "import signal, sys; from lutra.gen import cli\n"
        # Whoever is started in the background of a script is told to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.argv = ['lutra', *{words}]\n"
        "print('ready', flush=True); cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)  # it is at work
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.strip() == ""
