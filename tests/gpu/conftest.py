"""Skip what needs PyTorch where it is missing, and make the examples' modules importable."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tinylm"))


class _WithoutTorch(pytest.Module):
    def collect(self):
        pytest.skip("needs PyTorch: pip install 'lutra[gpu]'", allow_module_level=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path, parent):
    if importlib.util.find_spec("torch") is None:
        return _WithoutTorch.from_parent(parent, path=module_path)
    return None
