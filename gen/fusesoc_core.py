"""A FuseSoC core description (CAPI2) of a generated engine."""

import json

from ..sim.verilator import LINT_WAIVERS
from .config import EngineConfig

__all__ = ["fusesoc_core"]

_TEXT = """\
CAPI=2:
name: {vendor}:{library}:{name}:{version}
description: {description}

filesets:
  rtl:
    files: [{name}.v]
    file_type: verilogSource
  axis:
    files: [{name}_axis.v]
    file_type: verilogSource

targets:
  default:
    description: The engine, for designs that depend on it
    filesets: [rtl]
    toplevel: {name}
  axis:
    description: The engine with AXI4-Stream ports
    filesets: [rtl, axis]
    toplevel: {name}_axis
  lint:
    description: Verilator's rules
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [{waivers}]
    filesets: [rtl, axis]
    toplevel: {name}_axis
"""


def fusesoc_core(
    config: EngineConfig, *, vendor: str, library: str, version: str, description: str
) -> str:
    """Describe an engine to FuseSoC.

    Its targets are ``default``, the engine for designs that depend on it; ``axis``, with
    AXI4-Stream ports; and ``lint``.

    Parameters
    ----------
    config : EngineConfig
        The engine's configuration.
    vendor, library, version : str
        The core's name, but for the engine's own.
    description : str
        A sentence.

    Returns
    -------
    str
        Text of the ``.core`` file, which belongs beside ``<name>.v`` and ``<name>_axis.v``.
    """
    return _TEXT.format(
        name=config.name,
        vendor=vendor,
        library=library,
        version=version,
        description=json.dumps(description),
        waivers=", ".join(f"-Wno-{rule}" for rule in LINT_WAIVERS),
    )
