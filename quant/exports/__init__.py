"""Model files as checkpoints of other tools."""

from .export_file import EXPORTERS, SCALE_TYPES, Exported, export_file

__all__ = ["EXPORTERS", "SCALE_TYPES", "Exported", "export_file"]
