"""The torch types of what goes in and what comes out, by the names of the contract."""

import torch

__all__ = ["BIT_DTYPES", "DTYPES", "dtype_name"]

DTYPES: dict[str, torch.dtype] = {
    "int8": torch.int8,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}

# Integers as wide as a float type, for its bits.
BIT_DTYPES: dict[str, torch.dtype] = {
    "float16": torch.int16,
    "bfloat16": torch.int16,
    "float32": torch.int32,
}


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a type as messages and :class:`Numerics` have it, such as ``float16``."""
    return str(dtype).removeprefix("torch.")
