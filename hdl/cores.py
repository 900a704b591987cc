# amaranth: UnusedElaboratable=no
"""The kinds of engine: which core and which builder go together."""

from .activation_loader import ActivationLoader
from .core import Core
from .lut_core import LutCore
from .mac_core import MacCore
from .parameters import EngineParameters
from .table_builder import TableBuilder
from .term_core import TermCore
from .tile_builder import TileBuilder

__all__ = ["builder_for", "core_for"]

_KINDS: dict[str, tuple[type[Core], type[TileBuilder]]] = {
    "lut": (LutCore, TableBuilder),
    "term": (TermCore, ActivationLoader),
    "mac": (MacCore, ActivationLoader),
}


def core_for(parameters: EngineParameters) -> Core:
    """Return a new core of the parameters' kind."""
    return _KINDS[parameters.core.engine][0](parameters=parameters)  # type: ignore[call-arg]


def builder_for(parameters: EngineParameters) -> TileBuilder:
    """Return a new builder of the parameters' kind."""
    return _KINDS[parameters.core.engine][1](parameters=parameters)  # type: ignore[call-arg]
