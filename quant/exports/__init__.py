"""Model files as checkpoints of other tools, without rounding."""

from .export_file import EXPORTERS, Exported, export_file

__all__ = ["EXPORTERS", "Exported", "export_file"]
