"""The NumPy types of what goes into an engine and what comes out."""

import ml_dtypes
import numpy as np

__all__ = ["DTYPES"]

DTYPES: dict[str, np.dtype] = {
    "int8": np.dtype(np.int8),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}
