"""Quantised checkpoints of other tools, read without rounding."""

from .exact_matrix import exact_matrix
from .import_file import Imported, import_file
from .importer import Importer
from .registry import IMPORTERS, detect_importer
from .source import CheckpointSource

__all__ = [
    "IMPORTERS",
    "CheckpointSource",
    "Imported",
    "Importer",
    "detect_importer",
    "exact_matrix",
    "import_file",
]
