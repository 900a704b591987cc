"""Netlists of an FPGA's cells as back ends."""

import re
import subprocess

import pytest

from lutra.gen import PRESETS, EngineError, compare_layer, make_backend, random_tokens
from lutra.gen.backend_netlist import netlist_verilog
from lutra.gen.backend_verilator import VerilatorBackend
from lutra.gen.random_layer import random_layer
from lutra.gen.synth.cell_models import cell_models, without_model
from lutra.sim import ToolError
from lutra.sim.verilator import verilator, verilator_environment

CELLS = {
    "ecp5": ("CCU2C", "LUT4", "TRELLIS_DPR16X4", "TRELLIS_FF"),
    "xc7": ("CARRY4", "DSP48E1", "FDRE", "FDSE", "LUT6", "MUXF7", "MUXF8", "RAM32M", "RAM64M"),
}
BLOCKS = {"ecp5": ["DP16KD", "MULT18X18D"], "xc7": ["RAMB18E1", "RAMB36E1"]}

# Two lanes, one of them a plain and one a special format; both take part in every row.
SMALL = {
    "name": "nano",
    "stream.lanes": "2",
    "stream.width": "16",
    "stream.tile_slices": "1",
    "stream.formats": "int2,bitmod3",
    "stream.group_sizes": "16",
    "stream.scale_width": "4",
    "stream.max_rows": "8",
    "stream.max_columns": "32",
    "stream.ahead": "2",
    "numerics.activation": "int8",
    "numerics.act_width": "8",
    "numerics.output": "int",
    "datapath.act_lanes": "4",
}
ENGINES = {
    "lut, full tables": {"core.mu": "2"},
    "lut, half tables": {"core.mu": "4", "core.table": "half", "datapath.adder_levels": "1"},
    "lut, block RAM": {"core.mu": "4", "core.table": "block"},  # of which there is no model
    "term": {"engine": "term"},
    "mac": {"engine": "mac"},
}


def quiet(*_):
    """Report no progress."""


@pytest.fixture(scope="module")
def config():
    return PRESETS["tiny"].replace(SMALL)


@pytest.fixture(scope="module")
def small_layer(config):
    return random_layer((8, 32), ("int2", "bitmod3"), 16, config, seed=1)


def mismatches(config, layer, backend):
    x = random_tokens(config.parameters.numerics, 32, layer.columns, seed=2)
    compared = compare_layer("l", layer, x, config=config, backend=backend)
    assert compared.outputs == 32 * 8
    return compared.mismatches


# -- models of cells ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CELLS)
def test_models_are_complete(family, tmp_path):
    text = cell_models(CELLS[family], family)
    modules = re.findall(r"^ *module (\w+)", text, re.MULTILINE)
    assert len(set(modules)) == len(modules)
    assert set(CELLS[family]) <= set(modules)
    assert "specify" not in text
    (tmp_path / "models.v").write_text(text)
    for cell in CELLS[family]:
        options = ["--lint-only", "-Wno-fatal", "-Wno-lint", "--top-module", cell]
        subprocess.run(
            [verilator(), *options, str(tmp_path / "models.v")],
            env=verilator_environment(),
            check=True,
            capture_output=True,
        )


@pytest.mark.parametrize("family", CELLS)
def test_cells_without_a_model(family):
    assert without_model((*CELLS[family], *BLOCKS[family]), family) == BLOCKS[family]
    with pytest.raises(ToolError, match=f"no simulation model of {BLOCKS[family][0]}, "):
        cell_models(BLOCKS[family], family)


# -- engines --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("target", ["netlist", "netlist-xc7"])
@pytest.mark.parametrize("engine", ENGINES)
def test_netlists_are_bit_exact(engine, target, config, small_layer):
    chosen = config.replace(ENGINES[engine])
    assert mismatches(chosen, small_layer, make_backend(target, chosen)) == 0


@pytest.mark.slow
def test_flipped_tables_are_found(config, small_layer):
    """Flip an entry of sixteen look-up tables: few engines work without any of them."""
    chosen = config.replace(ENGINES["term"])
    changed, count = re.subn(
        r"(?<=LUT4 #\()(\s*\.INIT\(16'h)([0-9a-f]{4})",
        lambda found: f"{found[1]}{int(found[2], 16) ^ 0x8000:04x}",
        netlist_verilog(chosen, "ecp5-85k", quiet),
        count=16,
    )
    assert count == 16
    backend = VerilatorBackend(chosen, quiet, verilog=changed)
    try:
        found = mismatches(chosen, small_layer, backend)
    except EngineError:  # it stopped, which is as good
        return
    assert found
