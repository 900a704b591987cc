"""Number formats and the packed weight stream: what the bits mean. NumPy only."""

from .catalog import CATALOG, Family, family, member
from .floats import FLOATS, FloatType, round_to_bfloat16, widen_bfloat16
from .layout import StreamLayout
from .matrix import QuantizedMatrix
from .number_format import BinaryCodingFormat, NumberFormat, Plane, ValueFormat
from .numerics import ACTIVATIONS, OUTPUTS, Numerics
from .pack import PackedLayer, pack
from .planes import find_planes
from .terms import Term, signed_power_terms

__all__ = [
    "ACTIVATIONS",
    "CATALOG",
    "FLOATS",
    "OUTPUTS",
    "BinaryCodingFormat",
    "Family",
    "FloatType",
    "NumberFormat",
    "Numerics",
    "PackedLayer",
    "Plane",
    "QuantizedMatrix",
    "StreamLayout",
    "Term",
    "ValueFormat",
    "family",
    "find_planes",
    "member",
    "pack",
    "round_to_bfloat16",
    "signed_power_terms",
    "widen_bfloat16",
]
