"""Changes of a float checkpoint that leave its outputs alone and make it easier to quantise."""

from .decoder_block import DecoderBlock
from .equivalence import check_equivalence
from .heads import rotary_matrices, transform_queries, transform_values
from .pre_shift import pre_shift
from .scales import scale_hidden, scale_norm
from .smooth import smooth_block, smooth_scales

__all__ = [
    "DecoderBlock",
    "check_equivalence",
    "pre_shift",
    "rotary_matrices",
    "scale_hidden",
    "scale_norm",
    "smooth_block",
    "smooth_scales",
    "transform_queries",
    "transform_values",
]
