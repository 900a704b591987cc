"""Which way a layer takes on a device, and why."""

import importlib.util

import torch

from ..formats import QuantizedMatrix
from .packing import why_not_packed
from .self_test import check_fallback, device_fault

__all__ = ["why_not_fast"]


def why_not_fast(matrix: QuantizedMatrix, device: torch.device) -> str:
    """Return why a layer is computed by exact float64 products there, or nothing if by kernels.

    The first question for a GPU and some formats runs a self-test there.

    Parameters
    ----------
    matrix : QuantizedMatrix
    device : torch.device

    Raises
    ------
    :exc:`ValueError`
        If there is no such device, or it is neither a processor nor a GPU.
    :exc:`RuntimeError`
        If the exact products would be used, and the device computes them wrongly.
    """
    if device.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"Layers are computed on cpu or cuda, not on {device.type}")
    if device.type != "cuda":
        return f"the kernels need a GPU, and the layer is on {device.type}"
    if not torch.cuda.is_available():
        raise ValueError(f"There is no {device}: PyTorch {torch.__version__} finds no GPU; use cpu")
    if importlib.util.find_spec("triton") is None:
        reason = "triton is not installed"
    else:
        reason = why_not_packed(matrix) or device_fault(matrix, device)
    if reason:
        check_fallback(matrix, device)
    return reason
