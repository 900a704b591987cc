"""What is written for Vivado, checked by a linter of Tcl: Vivado itself is not at hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from lutra.gen import PRESETS
from lutra.gen.synth import TARGETS
from lutra.gen.synth.vivado import vivado_files


def lint(folder, text):
    """Return what tclint says of the syntax of a script."""
    path = folder / "script.tcl"
    path.write_text(text)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("tclint")), "--style-line-length", "100", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(params=["xc7", "xcup"])
def target(request):
    return TARGETS[request.param]


@pytest.fixture
def files(target):
    return vivado_files(PRESETS["tiny"], "module m;", target, dsp=False, frequency_mhz=250)


def test_files(files, target):
    assert list(files) == ["lutra_tiny.v", "lutra_tiny.xdc", "project.tcl"]
    assert files["lutra_tiny.v"] == "module m;"
    assert f"-part {target.device} lutra_tiny" in files["project.tcl"]
    assert "create_clock -name clk -period 4.000 [get_ports clk]" in files["lutra_tiny.xdc"]
    for name in ("lutra_tiny.v", "lutra_tiny.xdc"):
        assert f"[file join $here {name}]" in files["project.tcl"]


def test_dsp_blocks_are_left_out_unless_wanted(files, target):
    assert "-max_dsp 0" in files["project.tcl"]
    wanted = vivado_files(PRESETS["tiny"], "", target, dsp=True, frequency_mhz=250)
    assert "max_dsp" not in wanted["project.tcl"]


@pytest.mark.parametrize("name", ["project.tcl", "lutra_tiny.xdc"])
def test_syntax(files, tmp_path, name):
    assert lint(tmp_path, files[name]) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[info script]]]", "[info script]]"),
        ("foreach run {synth_1 impl_1}", "foreach run"),
        ("{STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS}", "{STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS"),
        ('error "$run', 'error $run"'),
        ("set here [", "set here there ["),
    ],
)
def test_planted_faults_are_found(files, tmp_path, before, after):
    assert before in files["project.tcl"]
    assert lint(tmp_path, files["project.tcl"].replace(before, after, 1)) != ""
