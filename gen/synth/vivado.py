"""Files for Vivado: a project's script and constraints. Nothing here runs it."""

from ..config import EngineConfig
from .targets import Target

__all__ = ["NOT_RUN", "vivado_files"]

NOT_RUN = "Vivado: not run here"


def vivado_files(
    config: EngineConfig, verilog: str, target: Target, *, dsp: bool, frequency_mhz: float
) -> dict[str, str]:
    """Return what Vivado needs to synthesise, place and route an engine out of context.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    verilog : str
        Its Verilog.
    target : Target
        A target of AMD's; its device is the project's part.
    dsp : bool
        Whether products may go into DSP blocks.
    frequency_mhz : float
        Frequency of the clock constraint.

    Returns
    -------
    dict of str to str
        Text by file name: the Verilog, constraints, and ``project.tcl`` for ``vivado -mode batch
        -source project.tcl``.
    """
    name = config.name
    return {
        f"{name}.v": verilog,
        f"{name}.xdc": _constraints(frequency_mhz),
        "project.tcl": _project(name, target.device, dsp),
    }


def _constraints(frequency_mhz: float) -> str:
    return f"""\
# The engine out of context: one clock. What stands around it decides how early its inputs come and
# how late its outputs may; here they have half a cycle.
create_clock -name clk -period {1000 / frequency_mhz:.3f} [get_ports clk]
set data_inputs [filter [all_inputs] {{NAME != clk}}]
set_input_delay -clock clk {500 / frequency_mhz:.3f} $data_inputs
set_output_delay -clock clk {500 / frequency_mhz:.3f} [all_outputs]
"""


def _project(name: str, part: str, dsp: bool) -> str:
    more = "-mode out_of_context" + ("" if dsp else " -max_dsp 0")
    return f"""\
# vivado -mode batch -source project.tcl
# Makes a project in the folder vivado/ beside this file, runs it, and writes reports beside it.
set here [file dirname [file normalize [info script]]]
create_project -force -part {part} {name} [file join $here vivado]
add_files -norecurse [file join $here {name}.v]
add_files -norecurse -fileset constrs_1 [file join $here {name}.xdc]
set_property top {name} [current_fileset]
set_property -name {{STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS}} -value {{{more}}} \\
  -objects [get_runs synth_1]

foreach run {{synth_1 impl_1}} {{
  launch_runs $run
  wait_on_runs $run
  if {{[get_property PROGRESS [get_runs $run]] ne "100%"}} {{
    error "$run failed: see its log in [get_property DIRECTORY [get_runs $run]]"
  }}
}}

open_run impl_1
report_utilization -hierarchical -file [file join $here utilization.rpt]
report_timing_summary -file [file join $here timing.rpt]
"""
