import json

import pytest

from lutra.gen.synth import TARGETS, place_and_route
from lutra.gen.synth.output_registers import use_output_registers

# A memory of 1024 words that is read by one port, and what stands behind it.
MEMORY = """
module sums(input clk, input other, input rst, input en, input we, input [9:0] wa, ra,
            input [{top}:0] d, output [{top}:0] q, output [{top}:0] now);
  (* ram_style = "block", no_rw_check *) reg [{top}:0] store [0:1023];
  reg [{top}:0] read, kept;
  always @(posedge clk) begin
    if (we) store[wa] <= d;
    {read}
  end
  always @(posedge {clock}) {keep}
  assign q = kept;
  assign now = {now};
endmodule
"""
RIGHT = {
    "top": 8,
    "read": "read <= store[ra];",
    "clock": "clk",
    "keep": "kept <= read;",
    "now": "0",
}


@pytest.fixture(scope="module")
def mapped(sums):
    """Map such a memory; return its netlist and its module of Yosys' JSON."""

    def run(**changes):
        text = MEMORY.format(**(RIGHT | changes))
        netlist = sums("ecp5-25k", text=text, keep=())
        return netlist, json.loads(netlist.json)

    return run


def cells_of(data, kind):
    return [cell for cell in data["modules"]["sums"]["cells"].values() if cell["type"] == kind]


@pytest.mark.parametrize("width", [9, 18, 36, 60])
def test_registers_become_the_blocks_own(mapped, width):
    """All bits of the output are then the block RAM's, in their order."""
    _, data = mapped(top=width - 1)
    assert len(cells_of(data, "TRELLIS_FF")) == width
    kept = data["modules"]["sums"]["ports"]["q"]["bits"]
    source = {
        cell["connections"]["Q"][0]: cell["connections"]["DI"][0]
        for cell in cells_of(data, "TRELLIS_FF")
    }
    places = [_place(data, source[bit]) for bit in kept]
    assert use_output_registers(data) == width
    assert cells_of(data, "TRELLIS_FF") == []
    assert [_place(data, bit) for bit in kept] == places
    assert len(set(places)) == width
    for block in cells_of(data, "DP16KD"):
        wide = int(block["parameters"]["DATA_WIDTH_B"], 2) == 36
        for port in "AB":
            reads = wide or any(place[1].startswith(f"DO{port}") for place in places)
            expected = "OUTREG" if reads else "NOREG"
            if wide or reads:
                assert block["parameters"][f"REGMODE_{port}"] == expected
                assert block["connections"][f"OCE{port}"] == ["1"]
    assert use_output_registers(data) == 0


def _place(data, bit):
    """Return the block and the port of it that drive a wire."""
    return next(
        (name, port)
        for name, cell in data["modules"]["sums"]["cells"].items()
        if cell["type"] == "DP16KD"
        for port, bits in cell["connections"].items()
        if port.startswith("DO") and bits == [bit]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"keep": "if (rst) kept <= 0; else kept <= read;"},
        {"keep": "if (en) kept <= read;"},
        {"keep": "kept <= ~read;"},
        {"keep": "kept <= read + 1;"},
        {"clock": "other"},
        {"clock": "clk or posedge rst", "keep": "if (rst) kept <= 0; else kept <= read;"},
        {"now": "read"},
        {"now": "{8'd0, read[3]}"},
        {"read": "if (en) read <= store[ra];"},
    ],
    ids=lambda changes: ", ".join(changes.values()),
)
@pytest.mark.parametrize("width", [9, 36])
def test_other_registers_stay(mapped, changes, width):
    """One that does anything else, whose input is used elsewhere, or behind a port with enable."""
    if changes.get("now", "").startswith("{"):
        changes = {"now": f"{{{width - 1}'d0, read[3]}}"}
    _, data = mapped(top=width - 1, **changes)
    before = json.dumps(data)
    assert use_output_registers(data) == 0
    assert json.dumps(data) == before


def test_it_is_placed_and_faster(mapped, cache):
    """nextpnr takes such a netlist, and what is left are ways between cells."""
    netlist, _ = mapped()
    placed = place_and_route(netlist, TARGETS["ecp5-25k"], cache=cache)
    assert "TRELLIS_FF" not in placed.utilisation
    assert placed.utilisation["DP16KD"][0] == 1
