"""The squared error of a layer's outputs, row by row, and where it grows."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["OutputLoss", "choose_device"]


class OutputLoss:
    """``e @ H @ e.T`` for the errors ``e`` of each row, in float32.

    Parameters
    ----------
    hessian : float64 array, shape (K, K)
    weights : float32 array, shape (N, K)
    device : torch.device
    """

    def __init__(
        self,
        hessian: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float32],
        device: torch.device,
    ):
        self._hessian = torch.from_numpy(hessian.astype(np.float32)).to(device)
        self._weights = torch.from_numpy(np.ascontiguousarray(weights)).to(device)

    def __call__(self, quantised: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row, (N,), and half its gradient for ``quantised``, (N, K)."""
        errors = quantised.detach() - self._weights
        slope = errors @ self._hessian
        return (errors * slope).sum(dim=1), slope


def choose_device(name: str) -> torch.device:
    """Return the device of an option.

    Raises
    ------
    :exc:`ValueError`
        If PyTorch sees no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no GPU; set the method's option 'device' to 'cpu'")
    return torch.device(name)
