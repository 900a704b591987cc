"""Quantised layers in PyTorch and Triton, with the bits of the golden model."""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError("lutra.gpu needs PyTorch; install it with `pip install 'lutra[gpu]'`")

from .activations import ZERO_TOKEN, AlignedTokens, align, step_exponents
from .arrays import from_numpy, to_numpy
from .compute import Computation, kernel_device
from .host import add_bias, scale_tokens
from .linear import Linear
from .op import matmul, sums
from .outputs import convert_output
from .packed import PackedWeights
from .patch import PatchReport, patch
from .row_scales import split_row_scales
from .weight_spec import WeightSpec

__all__ = [
    "ZERO_TOKEN",
    "AlignedTokens",
    "Computation",
    "Linear",
    "PackedWeights",
    "PatchReport",
    "WeightSpec",
    "add_bias",
    "align",
    "convert_output",
    "from_numpy",
    "kernel_device",
    "matmul",
    "patch",
    "scale_tokens",
    "split_row_scales",
    "step_exponents",
    "sums",
    "to_numpy",
]
