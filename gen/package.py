"""Standard packaging of a generated engine: what FuseSoC and Vivado read."""

import hashlib
from importlib.metadata import version

from .axis_wrapper import AXIS_STREAMS, axis_wrapper
from .config import EngineConfig
from .fusesoc_core import fusesoc_core
from .ip_xact import ip_xact
from .verilog import GeneratedEngine

__all__ = ["package_engine"]

_VENDOR, _LIBRARY = "lutra", "engine"


def package_engine(config: EngineConfig, engine: GeneratedEngine) -> dict[str, str]:
    """Write what packages an engine; see ``docs/packaging.md``.

    Equal configurations give equal text.

    Parameters
    ----------
    config : EngineConfig
        The engine's configuration.
    engine : GeneratedEngine
        What was generated from it.

    Returns
    -------
    dict of str to str
        Texts by file name: the AXI4-Stream wrapper, the FuseSoC core and the IP-XACT component,
        all of which belong beside ``<name>.v``.
    """
    wrapper = axis_wrapper(config, engine)
    layout = config.parameters.layout
    description = (
        f"Matrix-vector products of {', '.join(layout.formats)} weights: "
        f"{config.engine} engine, {layout.lanes} lanes x {layout.width} weights a slice"
    )
    full = version("lutra")
    digest = hashlib.sha256((engine.verilog + wrapper.verilog).encode()).hexdigest()
    top = f"{config.name}_axis"
    return {
        f"{top}.v": wrapper.verilog,
        f"{config.name}.core": fusesoc_core(
            config, vendor=_VENDOR, library=_LIBRARY, version=full, description=description
        ),
        "component.xml": ip_xact(
            top,
            wrapper.ports,
            streams=tuple(AXIS_STREAMS.values()),
            optional={"clear": 0},
            files=(f"{config.name}.v", f"{top}.v"),
            identity={
                "vendor": _VENDOR,
                "library": _LIBRARY,
                "name": top,
                # Vivado's versions have two numbers.
                "version": ".".join(full.split(".")[:2]),
            },
            title=f"{config.name} (Lutra)",
            description=description,
            revision=int(digest[:7], 16) + 1,  # fits a signed word; 0 is what Vivado begins with
        ),
    }
