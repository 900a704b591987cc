"""NumPy arrays to torch tensors and back, bfloat16 among them."""

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["from_numpy", "to_numpy"]


def from_numpy(x: npt.NDArray) -> Tensor:
    """Return a tensor with the bits of an array; :class:`ml_dtypes.bfloat16` is known.

    Parameters
    ----------
    x : array, any shape

    Returns
    -------
    tensor of the same type and shape, on the processor
    """
    x = np.ascontiguousarray(x)
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def to_numpy(x: Tensor) -> npt.NDArray:
    """Undo :func:`from_numpy`, from any device."""
    x = x.detach().cpu().contiguous()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy()
