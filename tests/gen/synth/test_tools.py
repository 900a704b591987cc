import os
import re
from importlib.metadata import EntryPoint

import pytest

from lutra.gen.synth import tools
from lutra.gen.synth.tools import run_program, tool_version
from lutra.sim import ToolError

PROGRAM = """
import pathlib, sys

def start():
    pathlib.Path("log").write_text("a line\\n")
    exec(pathlib.Path(sys.argv[1]).read_text())
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Stand in for a tool: run the lines given, and return what was watched of its log."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "stand_in.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    entry = EntryPoint("tool", "stand_in:start", "console_scripts")
    monkeypatch.setattr(tools, "entry_points", lambda group, name: [entry])
    monkeypatch.setattr(tools, "_WATCH_SECONDS", 0.02)

    def run(lines):
        (tmp_path / "lines.py").write_text(lines)
        watched = []
        run_program("tool", ["lines.py"], folder=tmp_path, log="log", watch=watched.append)
        return "".join(watched)

    return run


def test_the_log_is_watched(program):
    lines = """
import time
with open("log", "a") as file:
    for number in range(3):
        time.sleep(0.3)
        file.write(f"stage {number}\\n")
        file.flush()
    time.sleep(1)
"""
    assert program(lines) == "a line\nstage 0\nstage 1\nstage 2\n"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("open('log', 'a').write('ERROR: too   wide.\\n'); sys.exit(1)", "too wide"),
        ("open('log', 'a').write('x.v:3: ERROR: a\\nERROR: b\\n'); sys.exit(1)", "a; b"),
        ("print('Error: no input'); sys.exit(2)", "no input"),
        ("raise PermissionError('cache')", "PermissionError: cache"),
        ("sys.exit(3)", "status 3"),
    ],
)
def test_the_reason_of_a_failure(program, lines, reason):
    with pytest.raises(ToolError, match=f"^tool failed: {re.escape(reason)}$"):
        program(lines)


def test_what_is_interrupted_is_not_left_running(program, tmp_path):
    running = []

    def stop(text):
        if "pid" in text:
            running.append(int(text.split()[-1]))
            raise KeyboardInterrupt

    (tmp_path / "late.py").write_text(
        "import os, time\n"
        "with open('log', 'a') as file:\n"
        "    file.write(f'pid {os.getpid()}\\n')\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(KeyboardInterrupt):
        run_program("tool", ["late.py"], folder=tmp_path, log="log", watch=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(running[0], 0)


def test_a_missing_program():
    with pytest.raises(ToolError, match=r"^no-such was not found; install it with: pip install"):
        tool_version("no-such")
