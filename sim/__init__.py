"""What an engine must return, and the inputs that try it hardest."""

from .activations import AlignedTokens, align
from .adversarial import adversarial_tokens, nonfinite_tokens
from .adversarial_matrices import adversarial_matrices, random_matrix
from .dtypes import DTYPES
from .golden import GoldenModel
from .host import add_bias, scale_tokens
from .outputs import convert_output
from .product import ExactProduct, exact_product

__all__ = [
    "DTYPES",
    "AlignedTokens",
    "ExactProduct",
    "GoldenModel",
    "add_bias",
    "adversarial_matrices",
    "adversarial_tokens",
    "align",
    "convert_output",
    "exact_product",
    "nonfinite_tokens",
    "random_matrix",
    "scale_tokens",
]
