# amaranth: UnusedElaboratable=no
"""Instances of a module that is defined elsewhere."""

from typing import Any

from amaranth import Module
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutra.hdl import Blackbox

SIGNATURE = wiring.Signature({
    "number": In(4),
    "answer": Out(8),
    "bus": In(wiring.Signature({"valid": In(1), "ready": Out(1)})),
})


def test_instance():
    m = Module()
    lane: Any = Blackbox(SIGNATURE, module="other_lane")
    m.submodules.lane = lane
    text = verilog.convert(
        m,
        name="top",
        ports=[lane.number, lane.answer, lane.bus.valid, lane.bus.ready],
        emit_src=False,
        strip_internal_attrs=True,
    )
    instance = text.split("other_lane lane (", 1)[1].split(");", 1)[0]
    connected = {line.strip().split("(")[0] for line in instance.splitlines() if line.strip()}
    assert connected == {".clk", ".rst", ".number", ".answer", ".bus__valid", ".bus__ready"}
    assert "module other_lane" not in text
