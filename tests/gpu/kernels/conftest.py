"""Tests of Triton kernels, for a process of their own: see ``tests/gpu/test_kernels.py``.

With ``TRITON_INTERPRET=1`` in the environment, which must be there before triton is imported, the
kernels run on the processor; without it they need a GPU. Where there is neither, nothing is
collected here.
"""

import importlib.util
import os

import pytest


def _device():
    if any(importlib.util.find_spec(name) is None for name in ("torch", "triton")):
        return None
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else None


DEVICE = _device()

collect_ignore_glob = [] if DEVICE else ["test_*.py"]


@pytest.fixture(scope="session")
def device():
    return DEVICE
