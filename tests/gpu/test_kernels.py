"""The tests of ``tests/gpu/kernels``, in a process where Triton interprets its kernels.

``TRITON_INTERPRET=1`` has to be there before triton is imported and holds for all kernels of a
process, so it gets one of its own. Where there is a GPU, the same tests also run on it, directly.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parent / "kernels"
FILES = sorted(path.name for path in KERNELS.glob("test_*.py"))

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'lutra[gpu]'"
)


def run(file, marks):
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", marks, str(KERNELS / file)],
        env={**os.environ, **threads, "TRITON_INTERPRET": "1"},
        cwd=KERNELS.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_files_are_found():
    assert FILES == ["test_align.py", "test_bits.py", "test_output.py", "test_products.py"]


@pytest.mark.parametrize("file", FILES)
def test_interpreted(file):
    code, text = run(file, "not slow")
    assert code == 0, text
    assert " passed" in text


@pytest.mark.slow
def test_interpreted_slowly():
    code, text = run("test_products.py", "slow")
    assert code == 0, text
    assert " passed" in text
