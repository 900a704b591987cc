"""Quantisers, recipes, float checkpoints and the model file."""

from .checkpoint import Checkpoint
from .convert import uniform_to_bcq
from .file_error import FileError
from .float_layer import FloatLayer
from .layer_record import LayerRecord
from .methods import METHODS, Method, method_for
from .model_file import ModelFile
from .model_writer import MODEL_VERSION, ModelWriter
from .quantize import quantize
from .quantize_file import quantize_file
from .recipe import Recipe

__all__ = [
    "METHODS",
    "MODEL_VERSION",
    "Checkpoint",
    "FileError",
    "FloatLayer",
    "LayerRecord",
    "Method",
    "ModelFile",
    "ModelWriter",
    "Recipe",
    "method_for",
    "quantize",
    "quantize_file",
    "uniform_to_bcq",
]
