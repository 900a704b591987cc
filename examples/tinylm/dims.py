"""Dimensions of the models of this folder, and where their checkpoints are."""

from lutra.sim.model_dims import DIMS, ModelDims

__all__ = ["CHECKPOINTS", "SIZES"]

SIZES = {
    "small": ModelDims(hidden_size=64, intermediate_size=256, head_count=2),
    "medium": DIMS,
    "large": ModelDims(hidden_size=256, intermediate_size=1024, head_count=8),
}
"""Models of one kind in three widths: 0.28, 1.08 and 4.26 million parameters."""

CHECKPOINTS = {
    "small": "tinylm-small.safetensors",
    "medium": "tinylm.safetensors",
    "large": "tinylm-large.safetensors",
}
"""File of each size, in this folder; that of the large one is not in the repository."""
