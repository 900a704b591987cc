"""Skip what needs PyTorch where it is missing, and make the examples' modules importable."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tinylm"))


NEEDS_TRITON = ("test_compile.py",)


class _Skipped(pytest.Module):
    missing = ""

    def collect(self):
        pytest.skip(f"needs {self.missing}: pip install 'lutra[gpu]'", allow_module_level=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path, parent):
    needed = ("torch", "triton") if module_path.name in NEEDS_TRITON else ("torch",)
    for name in needed:
        if importlib.util.find_spec(name) is None:
            module = _Skipped.from_parent(parent, path=module_path)
            module.missing = name
            return module
    return None
