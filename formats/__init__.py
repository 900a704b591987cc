"""Number formats and the packed weight stream: what the bits mean. NumPy only."""

from .affine_format import AffineFormat
from .block_format import BLOCK_FORMATS, BlockFormat
from .catalog import ALIASES, CATALOG, CODEBOOKS, Family, family, member
from .codebook import CodebookFormat, CodebookSlot
from .floats import FLOATS, FloatType, round_to_bfloat16, widen_bfloat16
from .free_format import FreeFormat
from .layout import StreamLayout
from .matrix import QuantizedMatrix
from .minifloat import minifloat
from .number_format import BinaryCodingFormat, NumberFormat, Plane, ValueFormat
from .numerics import ACTIVATIONS, OUTPUTS, Numerics
from .outliers import Outliers
from .pack import PackedLayer, pack
from .planes import find_planes
from .power_codebook import power_values
from .terms import Term, TermStep, find_term_steps, signed_power_terms

__all__ = [
    "ACTIVATIONS",
    "ALIASES",
    "BLOCK_FORMATS",
    "CATALOG",
    "CODEBOOKS",
    "FLOATS",
    "OUTPUTS",
    "AffineFormat",
    "BinaryCodingFormat",
    "BlockFormat",
    "CodebookFormat",
    "CodebookSlot",
    "Family",
    "FloatType",
    "FreeFormat",
    "NumberFormat",
    "Numerics",
    "Outliers",
    "PackedLayer",
    "Plane",
    "QuantizedMatrix",
    "StreamLayout",
    "Term",
    "TermStep",
    "ValueFormat",
    "family",
    "find_planes",
    "find_term_steps",
    "member",
    "minifloat",
    "pack",
    "power_values",
    "round_to_bfloat16",
    "signed_power_terms",
    "widen_bfloat16",
]
