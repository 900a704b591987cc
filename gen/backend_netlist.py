"""The netlist that synthesis makes of the generated Verilog, as a compiled program."""

import numpy.typing as npt

from ..formats import PackedLayer, QuantizedMatrix
from ..sim.verilator import compiler, verilator
from .backend import BackendRun, Progress
from .backend_verilator import VerilatorBackend
from .config import EngineConfig
from .synth import find_target, synthesise
from .synth.cell_models import cell_models, without_model
from .synth.engine import uses_dsp
from .verilog import generate_verilog

__all__ = ["NetlistBackend", "netlist_verilog"]


class NetlistBackend:
    """Cells of a device, as Yosys maps the engine to them, simulated by their models.

    It is the netlist of ``lutra synth``, unless that has block RAM or DSP blocks of which Yosys
    has no model: then the engine is mapped once more, without these.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    progress : callable
        Told in a few words what is being done, and how much of it from 0 to 1.
    target : str
        For which device; of family ``ecp5`` or ``xc7``.
    """

    def __init__(self, config: EngineConfig, progress: Progress, *, target: str) -> None:
        for find_tool in (verilator, compiler):
            find_tool()  # before anything that takes long
        verilog = netlist_verilog(config, target, progress)
        self._compiled = VerilatorBackend(config, progress, verilog=verilog)

    def run(
        self, matrix: QuantizedMatrix, x: npt.NDArray, *, packed: PackedLayer | None = None
    ) -> BackendRun:
        """Compute ``M`` tokens; see :class:`Backend`."""
        return self._compiled.run(matrix, x, packed=packed)


def netlist_verilog(config: EngineConfig, target: str, progress: Progress) -> str:
    """Synthesise an engine; return the netlist and models of its cells as Verilog.

    Raises
    ------
    :exc:`ToolError`
        If Yosys is missing or fails.
    """
    device = find_target(target)
    progress("generating Verilog", 0.0)
    verilog = generate_verilog(config)
    # What Yosys has no model of is mapped to LUTs, adders and memory of LUTs. Memory that asks for
    # block RAM would get it even so.
    without_blocks = verilog.replace('(* ram_style = "block" *)', "")
    for text, options, with_dsp in (
        (verilog, (), uses_dsp(config)),
        (without_blocks, ("-nobram",), False),
    ):
        netlist = synthesise(
            text,
            config.name,
            device,
            keep=(f"{config.name}_lane",),
            dsp=with_dsp,
            options=options,
            progress=progress,
        )
        if not without_model(netlist.types, device.family):
            break
    return f"{netlist.verilog}\n{cell_models(netlist.types, device.family)}"
