"""What an engine must return, and the inputs that try it hardest."""

from .activations import AlignedTokens, align
from .adversarial import adversarial_tokens, nonfinite_tokens
from .adversarial_matrices import adversarial_matrices, random_matrix
from .cycle_model import EngineTiming, predict_cycles
from .dtypes import DTYPES
from .emulator import EmulatedRun, Emulator
from .golden import GoldenModel
from .handshake import ProtocolError, Sink, Source, StallPattern
from .host import add_bias, scale_tokens
from .interface import EngineInterface
from .language_test import LanguageScore, LanguageTest
from .model_dims import ModelDims
from .outputs import convert_output
from .product import ExactProduct, exact_product
from .tiny_lm import KvCache, TinyLM
from .trace import GroupTrace, OutputTrace, trace_output
from .verilator import ToolError

__all__ = [
    "DTYPES",
    "AlignedTokens",
    "EmulatedRun",
    "Emulator",
    "EngineInterface",
    "EngineTiming",
    "ExactProduct",
    "GoldenModel",
    "GroupTrace",
    "KvCache",
    "LanguageScore",
    "LanguageTest",
    "ModelDims",
    "OutputTrace",
    "ProtocolError",
    "Sink",
    "Source",
    "StallPattern",
    "TinyLM",
    "ToolError",
    "add_bias",
    "adversarial_matrices",
    "adversarial_tokens",
    "align",
    "convert_output",
    "exact_product",
    "nonfinite_tokens",
    "predict_cycles",
    "random_matrix",
    "scale_tokens",
    "trace_output",
]
