"""What ``lutra generate --package`` writes, read back as the tools do that it is for."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from lutra.gen import PRESETS
from lutra.gen.axis_wrapper import AXIS_STREAMS, axis_wrapper
from lutra.gen.package import package_engine
from lutra.sim.verilator import lint

SPIRIT = {"s": "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"}

# Outputs of whole bytes, and outputs that are filled up.
VARIANTS = {"float32": {}, "int": {"numerics.output": "int", "numerics.activation": "bfloat16"}}


@pytest.fixture(params=VARIANTS)
def config(mini, request):
    return mini.replace(VARIANTS[request.param])


@pytest.fixture
def packaged(config, generated, tmp_path):
    """Write an engine and its packaging; return the folder."""
    engine = generated(config)
    for name, text in package_engine(config, engine).items():
        (tmp_path / name).write_text(text)
    (tmp_path / f"{config.name}.v").write_text(engine.verilog)
    return tmp_path


def elements(parent, path):
    return parent.findall("/".join(f"s:{step}" for step in path.split("/")), SPIRIT)


def text_of(parent, path):
    (found,) = elements(parent, path)
    return found.text


def ports_of_text(verilog):
    """Read a module's ports from its text."""
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+),?$", verilog, re.MULTILINE)
    return {name: (direction, int(top or 0) + 1) for direction, top, name in found}


def ports_of_component(component):
    ports = {}
    for port in elements(component, "model/ports/port"):
        left = elements(port, "wire/vector/left")
        width = int(left[0].text or "") + 1 if left else 1
        ports[text_of(port, "name")] = (f"{text_of(port, 'wire/direction')}put", width)
    return ports


# -- the wrapper ----------------------------------------------------------------------------------


def test_wrapper_has_the_streams_in_whole_bytes(config, generated):
    wrapper = axis_wrapper(config, generated(config))
    ports = {port.name: (port.direction, port.width) for port in wrapper.ports}
    assert ports_of_text(wrapper.verilog) == ports
    interface = config.interface
    for stream, width in (
        ("i_x", interface.x_width),
        ("i_w", interface.beat_width),
        ("o", interface.o_width),
    ):
        prefix = AXIS_STREAMS[stream]
        ahead, back = ("output", "input") if stream == "o" else ("input", "output")
        assert ports[f"{prefix}_tdata"] == (ahead, -(-width // 8) * 8)
        assert ports[f"{prefix}_tlast"] == ports[f"{prefix}_tvalid"] == (ahead, 1)
        assert ports[f"{prefix}_tready"] == (back, 1)
    assert bool(interface.o_width % 8) == (config.parameters.numerics.output == "int")
    assert ports["status"] == ("output", 5)
    assert len(ports) == 2 + 3 * 4 + 2


def test_wrapper_keeps_to_the_rules_of_verilog(config, packaged):
    both = packaged / "both.v"
    names = (f"{config.name}.v", f"{config.name}_axis.v")
    both.write_text("".join((packaged / name).read_text() for name in names))
    lint(both, top=f"{config.name}_axis")


# -- Vivado ---------------------------------------------------------------------------------------


def test_component_has_the_ports_of_the_wrapper(config, packaged):
    component = ET.parse(packaged / "component.xml").getroot()
    assert ports_of_component(component) == ports_of_text(
        (packaged / f"{config.name}_axis.v").read_text()
    )


def test_component_maps_every_stream(config, packaged):
    component = ET.parse(packaged / "component.xml").getroot()
    ports = ports_of_component(component)
    interfaces = {}
    for interface in elements(component, "busInterfaces/busInterface"):
        maps = {
            text_of(item, "logicalPort/name"): text_of(item, "physicalPort/name")
            for item in elements(interface, "portMaps/portMap")
        }
        (kind,) = elements(interface, "busType")
        parameters = {
            text_of(item, "name"): text_of(item, "value")
            for item in elements(interface, "parameters/parameter")
        }
        role = "master" if elements(interface, "master") else "slave"
        interfaces[text_of(interface, "name")] = (
            kind.get(f"{{{SPIRIT['s']}}}name"),
            role,
            maps,
            parameters,
        )
    for name, role in (("s_axis_x", "slave"), ("s_axis_w", "slave"), ("m_axis_o", "master")):
        maps = {part: f"{name}_{part.lower()}" for part in ("TDATA", "TLAST", "TVALID", "TREADY")}
        assert interfaces.pop(name) == ("axis", role, maps, {})
        assert set(maps.values()) <= set(ports)
    assert interfaces.pop("aresetn") == (
        "reset",
        "slave",
        {"RST": "aresetn"},
        {"POLARITY": "ACTIVE_LOW"},
    )
    streams = "s_axis_x:s_axis_w:m_axis_o"
    assert interfaces.pop("aclk") == (
        "clock",
        "slave",
        {"CLK": "aclk"},
        {"ASSOCIATED_BUSIF": streams, "ASSOCIATED_RESET": "aresetn"},
    )
    assert not interfaces


def test_component_names_what_is_there(config, packaged):
    component = ET.parse(packaged / "component.xml").getroot()
    sets = {
        text_of(item, "name"): [name.text for name in elements(item, "file/name")]
        for item in elements(component, "fileSets/fileSet")
    }
    views = elements(component, "model/views/view")
    assert len(views) == len(sets) == 2
    for view in views:
        assert text_of(view, "modelName") == f"{config.name}_axis"
        files = sets[text_of(view, "fileSetRef/localName")]
        assert files == [f"{config.name}.v", f"{config.name}_axis.v"]
        assert all((packaged / name).is_file() for name in files)
    # A block design may leave `clear` open.
    optional = [
        text_of(port, "name")
        for port in elements(component, "model/ports/port")
        if elements(port, "wire/driver/defaultValue")
    ]
    assert optional == ["clear"]


def test_other_contents_are_another_revision(mini, generated):
    def revision(config):
        text = package_engine(config, generated(config))["component.xml"]
        found = re.search(r"<xilinx:coreRevision>(\d+)</", text)
        assert found is not None
        return int(found[1])

    first = revision(mini)
    assert first == revision(mini)
    assert 0 < first < 1 << 31
    assert revision(mini.replace({"core.mu": "4"})) != first


# -- FuseSoC --------------------------------------------------------------------------------------


def fusesoc(folder, *arguments):
    # Not as a script: its folder may hold a file of settings.
    command = [sys.executable, "-m", "fusesoc.main", "--cores-root", ".", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["default", "axis", "lint"])
def test_fusesoc_finds_sources_and_top(mini, generated, tmp_path, target):
    engine = generated(mini)
    for name, text in package_engine(mini, engine).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "mini.v").write_text(engine.verilog)
    flow = [] if target == "lint" else ["--tool", "verilator"]
    done = fusesoc(
        tmp_path, "run", "--setup", "--target", target, *flow, "--work-root", "work", "mini"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (described,) = (tmp_path / "work").glob("*.eda.yml")
    design = yaml.safe_load(described.read_text())
    wrapped = target != "default"
    assert design["toplevel"] == ("mini_axis" if wrapped else "mini")
    files = {Path(file["name"]).name for file in design["files"]}
    assert (
        {"mini.v", "mini_axis.v"} >= files == ({"mini.v"} | ({"mini_axis.v"} if wrapped else set()))
    )
    assert {file["file_type"] for file in design["files"]} == {"verilogSource"}


def test_fusesoc_finds_a_mistake(mini, generated, tmp_path):
    core = package_engine(mini, generated(mini))["mini.core"]
    (tmp_path / "mini.core").write_text(core.replace("filesets: [rtl]", "filesets: [rlt]"))
    (tmp_path / "mini.v").write_text("")
    done = fusesoc(tmp_path, "run", "--setup", "--tool", "verilator", "--work-root", "work", "mini")
    assert done.returncode != 0


# -- the command ----------------------------------------------------------------------------------


def test_command(lutra, mini, mini_file, generated):
    done = lutra("generate", mini_file, "-o", "out", "--package", "--json")
    assert done.status == 0
    files = [Path(name).name for name in json.loads(done.out)["files"]]
    expected = {**package_engine(mini, generated(mini)), "mini.v": generated(mini).verilog}
    assert files == [
        "mini.v",
        "mini.json",
        "mini.toml",
        "mini_axis.v",
        "mini.core",
        "component.xml",
    ]
    for name, text in expected.items():
        assert Path("out", name).read_text() == text
    lutra("generate", mini_file, "-o", "plain")
    assert sorted(path.name for path in Path("plain").iterdir()) == [
        "mini.json",
        "mini.toml",
        "mini.v",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_streams_of_whole_bytes(name):
    interface = PRESETS[name].interface
    assert not interface.x_width % 8
    assert not interface.beat_width % 8
    assert not interface.o_width % 8
