import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from lutra.gen import PRESETS, EngineConfig, generate
from lutra.sim.verilator import LINT_WAIVERS, lint, verilator, verilator_environment

# Presets, small enough to check in seconds, and what they leave out.
VARIANTS = {
    "tiny": {},
    "small": {"stream.lanes": "2", "stream.output_lanes": "1"},
    "dsp and half tables": {
        "core.table": "half",
        "datapath.multiply": "dsp",
        "core.mu": "3",
        "stream.formats": "bcq2,bcq3_asym,int8_asym",
    },
    "int8 to int": {
        "numerics.activation": "int8",
        "numerics.act_width": "8",
        "numerics.output": "int",
        "stream.output_lanes": "4",
        "stream.formats": "ternary",
    },
    "exact, signs": {  # where one bit of a register is constant
        "numerics.act_width": "exact",
        "numerics.output": "bfloat16",
        "core.mu": "1",
        "stream.formats": "bcq3_asym",
    },
    "one of everything": {
        "stream.lanes": "1",
        "stream.width": "32",
        "stream.tile_slices": "1",
        "stream.group_sizes": "[]",
        "stream.formats": "bcq1",
        "stream.max_rows": "1",
        "stream.max_columns": "1",
        "datapath.act_lanes": "1",
    },
}


def variant(name: str) -> EngineConfig:
    base = name if name in PRESETS else "tiny"
    return PRESETS[base].replace({"name": "engine", **VARIANTS[name]})


def modules(verilog):
    return re.findall(r"^module ([^\s(]+)", verilog, re.MULTILINE)


def declared_ports(verilog, module):
    """Read a module's ports back from its text, as (name, direction, width)."""
    text = re.search(rf"^module {module} ?\(.*?^endmodule$", verilog, re.MULTILINE | re.DOTALL)
    assert text is not None
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", text[0], re.MULTILINE)
    return {(name, direction, int(top or 0) + 1) for direction, top, name in found}


def broken_rules(path, top):
    done = subprocess.run(
        [verilator(), "--lint-only", "-Wall", "-Wno-fatal", "--top-module", top, str(path)],
        env=verilator_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return Counter(re.findall(r"^%\w+-(\w+):", done.stderr, re.MULTILINE))


def check_text(verilog, lanes):
    names = modules(verilog)
    assert sorted(set(names)) == sorted(names)
    assert [item for item in names if "lane" in item and "__" not in item] == ["engine_lane"]
    assert names.count("engine") == 1
    assert all(re.fullmatch(r"\w+", item) for item in names)
    assert len(re.findall(r"^  engine_lane lane_\d+ \(", verilog, re.MULTILINE)) == lanes
    # Plain ASCII, and nothing of the machine that it was made on.
    assert verilog.isascii()
    for place in (Path(__file__).parents[2], Path.home(), Path(sys.prefix), Path.cwd()):
        assert str(place) not in verilog
    assert not re.search(r"(?<![/*])/\w+/\w+", verilog)
    # What nothing triggers is undefined in simulators that keep to the standard.
    assert not re.search(r"always @\*\n +\S+ = \d+'\w+;", verilog)
    assert "[-1:0]" not in verilog


def check_ports(engine):
    ports = {(port.name, port.direction, port.width) for port in engine.ports}
    assert declared_ports(engine.verilog, "engine") == ports
    outputs = {"i_x__ready", "i_w__ready", "o__payload", "o__valid", "status"}
    inputs = {"clk", "rst", "clear", "o__ready"}
    inputs |= {f"{stream}__{part}" for stream in ("i_x", "i_w") for part in ("payload", "valid")}
    assert {name for name, direction, _ in ports if direction == "output"} == outputs
    assert {name for name, direction, _ in ports if direction == "input"} == inputs


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name, tmp_path):
    engine = generate(variant(name))
    check_text(engine.verilog, variant(name).parameters.layout.lanes)
    check_ports(engine)
    (tmp_path / "engine.v").write_text(engine.verilog)
    broken = broken_rules(tmp_path / "engine.v", "engine")
    assert set(broken) <= set(LINT_WAIVERS)
    # Each waiver is needed, all but one of them by everything.
    assert set(LINT_WAIVERS) - {"CMPCONST"} <= set(broken)
    assert ("CMPCONST" in broken) == (name == "one of everything")


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_lint_of_whole_presets(name, tmp_path):
    (tmp_path / "engine.v").write_text(generate(PRESETS[name]).verilog)
    lint(tmp_path / "engine.v", top=PRESETS[name].name)


def test_text_is_the_same_in_every_process(mini, mini_file, generated):
    text = "import sys; from lutra.gen import *; print(generate_verilog(load_config(sys.argv[1])))"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", text, mini_file],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            cwd=folder,
            check=True,
        ).stdout
        for seed, folder in (("1", "/"), ("2", Path(__file__).parent))
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].decode() == generated(mini).verilog + "\n"


def test_text_follows_from_the_configuration_alone(mini, generated):
    text = generated(mini).verilog
    assert generate(EngineConfig.from_dict(mini.to_dict())).verilog == text
    other = generate(mini.replace({"name": "other", "core.mu": "4"})).verilog
    assert other != text
    assert all(name.startswith("other") for name in modules(other))
    assert "mini" not in other


def test_as_wide_as_it_gets():
    config = PRESETS["wide"]
    assert (config.parameters.layout.lanes, config.parameters.layout.width) == (32, 128)
    engine = generate(config)
    assert modules(engine.verilog).count("lutra_wide_lane") == 1
    assert len(re.findall(r"^  lutra_wide_lane ", engine.verilog, re.MULTILINE)) == 32
    # Lanes that are there once keep the text short.
    assert engine.verilog.count("\n") < 60_000
