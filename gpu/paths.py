"""Which way a layer takes on a device, and why."""

import importlib.util

import torch

from ..formats import QuantizedMatrix
from .packing import why_not_packed

__all__ = ["why_not_fast"]


def why_not_fast(matrix: QuantizedMatrix, device: torch.device) -> str:
    """Return why a layer is computed by exact float64 products there, or nothing if by kernels.

    The first question for a GPU and some formats runs their self-test there.

    Parameters
    ----------
    matrix : QuantizedMatrix
    device : torch.device
    """
    if device.type != "cuda":
        return f"the kernels need a GPU, and the layer is on {device.type}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if reason := why_not_packed(matrix):
        return reason
    from .self_test import device_fault  # needs triton

    return device_fault(matrix, device)
