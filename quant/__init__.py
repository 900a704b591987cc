"""Quantisers, recipes, float checkpoints and the model file."""

from .allocation import Allocation
from .calibration import Calibration, LayerCalibration
from .checkpoint import Checkpoint
from .convert import uniform_to_bcq
from .file_error import FileError
from .float_layer import FloatLayer
from .knapsack import knapsack
from .layer_record import LayerRecord
from .layered_recipe import LayeredRecipe
from .methods import METHODS, Method, method_for
from .mixture import Mixture
from .model_file import ModelFile
from .model_writer import MODEL_VERSION, ModelWriter
from .option import Option, OptionValue, parse_options
from .parse_recipe import AnyRecipe, load_recipe, parse_recipe
from .quantize import quantize, quantize_by
from .quantize_file import quantize_file
from .quantize_mixture import quantize_mixture
from .recipe import Recipe
from .recipe_hash import recipe_hash
from .scaling_law import Layout, ScalingLaw
from .slim import slim
from .weight_error import WeightError, weight_error

__all__ = [
    "METHODS",
    "MODEL_VERSION",
    "Allocation",
    "AnyRecipe",
    "Calibration",
    "Checkpoint",
    "FileError",
    "FloatLayer",
    "LayerCalibration",
    "LayerRecord",
    "LayeredRecipe",
    "Layout",
    "Method",
    "Mixture",
    "ModelFile",
    "ModelWriter",
    "Option",
    "OptionValue",
    "Recipe",
    "ScalingLaw",
    "WeightError",
    "knapsack",
    "load_recipe",
    "method_for",
    "parse_options",
    "parse_recipe",
    "quantize",
    "quantize_by",
    "quantize_file",
    "quantize_mixture",
    "recipe_hash",
    "slim",
    "uniform_to_bcq",
    "weight_error",
]
