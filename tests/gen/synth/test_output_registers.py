import json
import random

import pytest

from lutra.gen.synth import TARGETS, place_and_route
from lutra.gen.synth.few_pins import behind_few_pins
from lutra.gen.synth.output_registers import use_output_registers

# A memory that is read by one port, and what stands behind it.
MEMORY = """
module sums(input clk, input other, input rst, input en, input we, input [{bits}:0] wa, ra,
            input [{top}:0] d, output [{top}:0] q, output [{top}:0] now);
  (* ram_style = "block", no_rw_check *) reg [{top}:0] store [0:(2 << {bits}) - 1];
  reg [{top}:0] read, kept;
  reg [{top}:0] count = 0;
  always @(posedge clk) count <= count + kept;
  always @(posedge clk) begin
    if (we) store[wa] <= d;
    {read}
  end
  always @(posedge {clock}) {keep}
  reg [{top}:0] again = 0;
  assign q = {out};
  assign now = {now};
endmodule
"""
RIGHT = {
    "bits": 9,
    "top": 8,
    "read": "read <= store[ra];",
    "clock": "clk",
    "keep": "kept <= read;",
    "now": "0",
    "out": "kept",
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


ENABLED = {"keep": "if (en) kept <= read;", "read": "if (en) read <= store[ra];"}


@pytest.mark.parametrize("changes", [{}, ENABLED], ids=["always", "enabled"])
@pytest.mark.parametrize(
    ("words", "width", "wide"), [(1024, 9, False), (1024, 36, False), (512, 36, True)]
)
def test_registers_become_the_blocks_own(mapped, words, width, wide, changes):
    """All bits of the output are then the block RAM's, in their order."""
    _, data = mapped(top=width - 1, bits=words.bit_length() - 2, **changes)
    enable = data["modules"]["sums"]["ports"]["en"]["bits"] if changes else ["1"]
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
    read = {name[2] for _, name in places}  # ports: DOA0 and so on
    assert read == ({"A", "B"} if wide else read) != set()
    for block in cells_of(data, "DP16KD"):
        assert (int(block["parameters"]["DATA_WIDTH_B"], 2) == 36) == wide
        for port in "AB":
            expected = "OUTREG" if port in read else "NOREG"
            assert block["parameters"][f"REGMODE_{port}"] == expected
            assert port not in read or block["connections"][f"OCE{port}"] == enable
    assert use_output_registers(data) == 0


class Simulation:
    """Block RAM and flip-flops of a module, a cycle at a time.

    Memory is not written: what a port reads is some function of its address and the bit.
    """

    def __init__(self, module):
        self.ports = module["ports"]
        self.blocks = [cell for cell in module["cells"].values() if cell["type"] == "DP16KD"]
        self.registers = [cell for cell in module["cells"].values() if cell["type"] == "TRELLIS_FF"]
        assert len(self.blocks) + len(self.registers) == len(module["cells"])
        self.values = {"0": 0, "1": 1, "x": 0}
        self.latches = {}

    def outputs(self):
        """Yield each bit that a block drives: block, name, reading port, wire."""
        for index, block in enumerate(self.blocks):
            wide = int(block["parameters"]["DATA_WIDTH_B"], 2) == 36
            for name, bits in block["connections"].items():
                if name.startswith("DO"):
                    yield index, name, "B" if wide else name[2], bits[0]

    def cycle(self, inputs):
        """Set inputs, return the output, then let a cycle pass."""
        for name, value in inputs.items():
            for place, bit in enumerate(self.ports[name]["bits"]):
                self.values[bit] = value >> place & 1
        value = {bit: self.values.get(bit, 0) for bit in self.ports["q"]["bits"]}
        following = {}
        for cell in self.registers:
            wires, enable = cell["connections"], cell["parameters"]["CEMUX"].strip()
            if enable == "1" or self.values[wires["CE"][0]]:
                following[wires["Q"][0]] = self.values.get(wires["DI"][0], 0)
        for index, name, port, bit in self.outputs():
            block = self.blocks[index]
            wires = {key: self.values.get(bits[0], 0) for key, bits in block["connections"].items()}
            address = [wires[f"AD{port}{place}"] for place in range(14)]
            latch = (index, name)
            registered = block["parameters"][f"REGMODE_{name[2]}"] == "OUTREG"
            if registered and wires[f"OCE{name[2]}"]:
                following[bit] = self.latches.get(latch, 0)
            if wires[f"CE{port}"]:
                self.latches[latch] = random.Random(f"{address}{latch}").getrandbits(1)
                if not registered:
                    following[bit] = self.latches[latch]
        self.values |= following
        return list(value.values())


@pytest.mark.parametrize("changes", [{}, ENABLED], ids=["always", "enabled"])
@pytest.mark.parametrize(("bits", "width"), [(9, 9), (9, 36), (8, 36)])
def test_the_same_bits_in_the_same_cycle(mapped, bits, width, changes):
    _, data = mapped(top=width - 1, bits=bits, **changes)
    before = Simulation(json.loads(json.dumps(data))["modules"]["sums"])
    assert use_output_registers(data) == width
    after = Simulation(data["modules"]["sums"])
    rng = random.Random(width)
    seen = set()
    for _ in range(100):
        inputs = {"ra": rng.getrandbits(3), "en": rng.random() < 0.6}
        expected = before.cycle(inputs)
        assert after.cycle(inputs) == expected
        seen.add(tuple(expected))
    assert len(seen) > 5


@pytest.mark.parametrize("bits", [8, 9])
def test_one_of_two_registers_in_a_row(mapped, bits):
    """Block RAM has one: that behind it stays, however often it is looked at."""
    width = 36 if bits == 8 else 9
    _, data = mapped(
        top=width - 1, bits=bits, keep="begin kept <= read; again <= kept; end", out="again"
    )
    assert use_output_registers(data) == width
    assert use_output_registers(data) == 0


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("TRELLIS_FF", "LSRMUX", "INV"),  # held in reset
        ("TRELLIS_FF", "REGSET", "SET"),
        ("TRELLIS_FF", "CEMUX", "INV"),
        ("TRELLIS_FF", "CLKMUX", "INV"),
        ("DP16KD", "CEBMUX", "INV"),
        ("DP16KD", "CLKBMUX", "INV"),
        ("DP16KD", "REGMODE_B", "OUTREG"),
    ],
)
def test_other_settings_of_cells(mapped, kind, name, value):
    _, data = mapped(bits=8, top=35)
    for cell in cells_of(data, kind):
        cell["parameters"][name] = value
    assert use_output_registers(data) == 0


def test_modules_without_block_ram():
    """A module of which nothing is known but its name, and constants where wires could be."""
    cells = {"a": {"type": "LUT4", "connections": {"A": ["x"]}, "port_directions": {"A": "input"}}}
    assert use_output_registers({"modules": {"none": {}, "some": {"cells": cells}}}) == 0


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
        {"keep": "if (en) kept <= read;", "read": "if (we) read <= store[ra];"},
        {"keep": "if (!en) kept <= read;", "read": "if (en) read <= store[ra];"},
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
@pytest.mark.parametrize("bits", [8, 9])
def test_other_registers_stay(mapped, changes, bits):
    """One that does anything else, whose input is used elsewhere, or behind a port with enable."""
    width = 36 if bits == 8 else 9  # one block, wide or not
    if changes.get("now", "").startswith("{"):
        changes = {"now": f"{{{width - 1}'d0, read[3]}}"}
    _, data = mapped(top=width - 1, bits=bits, **changes)
    assert len(cells_of(data, "DP16KD")) == 1
    before = json.dumps(data)
    assert use_output_registers(data) == 0
    assert json.dumps(data) == before


def test_it_is_placed(mapped, cache):
    """The registers are no cells any more; what counts beside them is left."""
    netlist, data = mapped(now="count")
    wrapper = data["modules"][behind_few_pins(data, netlist.top, "ecp5")]
    around = [cell["type"] for cell in wrapper["cells"].values()].count("TRELLIS_FF")
    placed = place_and_route(netlist, TARGETS["ecp5-25k"], cache=cache)
    assert placed.utilisation["TRELLIS_FF"][0] == 9 + around
    assert placed.utilisation["DP16KD"][0] == 1
