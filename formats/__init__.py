"""Number formats and the packed weight stream: what the bits mean. NumPy only."""

from .catalog import CATALOG, CODEBOOKS, Family, family, member
from .codebook import CodebookFormat, CodebookSlot
from .floats import FLOATS, FloatType, round_to_bfloat16, widen_bfloat16
from .layout import StreamLayout
from .matrix import QuantizedMatrix
from .number_format import BinaryCodingFormat, NumberFormat, Plane, ValueFormat
from .numerics import ACTIVATIONS, OUTPUTS, Numerics
from .pack import PackedLayer, pack
from .planes import find_planes
from .terms import Term, TermStep, find_term_steps, signed_power_terms

__all__ = [
    "ACTIVATIONS",
    "CATALOG",
    "CODEBOOKS",
    "FLOATS",
    "OUTPUTS",
    "BinaryCodingFormat",
    "CodebookFormat",
    "CodebookSlot",
    "Family",
    "FloatType",
    "NumberFormat",
    "Numerics",
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
    "pack",
    "round_to_bfloat16",
    "signed_power_terms",
    "widen_bfloat16",
]
