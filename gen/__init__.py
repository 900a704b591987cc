"""Configurations, Verilog, back ends and the command line."""

from .backend import Backend, BackendRun, EngineError
from .backends import BACKENDS, make_backend
from .config import PRESETS, ConfigurationError, EngineConfig, load_config
from .manifest import build_manifest
from .simulate import LayerComparison, compare_layer, summarize
from .tokens import random_tokens
from .verilog import GeneratedEngine, generate, generate_verilog

__all__ = [
    "BACKENDS",
    "PRESETS",
    "Backend",
    "BackendRun",
    "ConfigurationError",
    "EngineConfig",
    "EngineError",
    "GeneratedEngine",
    "LayerComparison",
    "build_manifest",
    "compare_layer",
    "generate",
    "generate_verilog",
    "load_config",
    "make_backend",
    "random_tokens",
    "summarize",
]
