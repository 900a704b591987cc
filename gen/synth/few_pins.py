"""A module with thousands of ports behind three pins, so that a device of few pins can hold it."""

from collections.abc import Iterator
from itertools import count
from typing import Any

__all__ = ["PINS", "behind_few_pins"]

PINS = ("clk", "d", "q")

# Names of cells and their ports: a flip-flop with clock, input and output; a look-up table with
# its inputs, output and name of its function; pads, where nextpnr does not add them.
_CELLS: dict[str, dict[str, Any]] = {
    "ecp5": {
        "ff": ("TRELLIS_FF", "CLK", "DI", "Q"),
        "lut": ("LUT4", ("A", "B", "C", "D"), "Z", "INIT"),
    },
    "ice40": {
        "ff": ("SB_DFF", "C", "D", "Q"),
        "lut": ("SB_LUT4", ("I0", "I1", "I2", "I3"), "O", "LUT_INIT"),
    },
    "gowin": {
        "ff": ("DFF", "CLK", "D", "Q"),
        "lut": ("LUT4", ("I0", "I1", "I2", "I3"), "F", "INIT"),
        "in": ("IBUF", "I", "O"),
        "out": ("OBUF", "I", "O"),
    },
}
_XOR4 = f"{0x6996:016b}"


def behind_few_pins(netlist: dict[str, Any], top: str, family: str) -> str:
    """Put a module around a mapped design that brings its ports out through three pins.

    Inputs come from a shift register, outputs are registered and folded into one bit by a tree of
    exclusive ors with registers after each: so paths into and out of the design are those of a
    design whose neighbours are registers, and nothing of it can be optimised away.

    Parameters
    ----------
    netlist : dict
        Yosys' JSON; the module is added.
    top : str
        The design's module; its one clock is ``clk``.
    family : str
        A target's family.

    Returns
    -------
    str
        Name of the module that is now the top; it has the pins ``PINS``.

    Raises
    ------
    :exc:`ValueError`
        If the design has no clock of that name.
    """
    builder = _Builder(family)
    ports = netlist["modules"][top]["ports"]
    clock = ports.get("clk", {"direction": "none", "bits": []})
    if clock["direction"] != "input" or len(clock["bits"]) != 1:
        raise ValueError(f"Module {top!r} needs an input 'clk' of one bit, its only clock")
    clk, d = builder.pin_in("clk"), builder.pin_in("d")
    connections: dict[str, list[int]] = {}
    outputs: list[int] = []
    bit = d
    for name, port in ports.items():
        wires = []
        for _ in port["bits"]:
            if name == "clk":
                wires.append(clk)
            elif port["direction"] == "input":
                bit = builder.register(clk, bit)
                wires.append(bit)
            else:
                wires.append(next(builder.wires))
                outputs.append(builder.register(clk, wires[-1]))
        connections[name] = wires
    # The register's end as well, or a design without inputs would leave it without use.
    outputs.append(bit)
    while len(outputs) > 1:
        groups = [outputs[i : i + 4] for i in range(0, len(outputs), 4)]
        outputs = [builder.register(clk, builder.fold(group)) for group in groups]
    builder.pin_out("q", outputs[0])
    builder.cell(top, connections, {name: port["direction"] for name, port in ports.items()})
    wrapper = f"{top}_few_pins"
    netlist["modules"][top].get("attributes", {}).pop("top", None)
    netlist["modules"][wrapper] = {
        "attributes": {"top": f"{1:032b}"},
        "ports": builder.ports,
        "cells": builder.cells,
        "netnames": {
            name: {"hide_name": 0, "bits": port["bits"], "attributes": {}}
            for name, port in builder.ports.items()
        },
    }
    return wrapper


class _Builder:
    """A module of Yosys' JSON in the making; wires are numbers."""

    def __init__(self, family: str) -> None:
        self.wires: Iterator[int] = count(2)  # Yosys leaves 0 and 1 to constants
        self.ports: dict[str, Any] = {}
        self.cells: dict[str, Any] = {}
        self._cells = _CELLS[family]

    def cell(
        self,
        kind: str,
        connections: dict[str, list[int]],
        directions: dict[str, str],
        parameters: dict[str, str] | None = None,
    ) -> None:
        self.cells[f"cell_{len(self.cells)}"] = {
            "hide_name": 0,
            "type": kind,
            "parameters": parameters or {},
            "attributes": {},
            "port_directions": directions,
            "connections": connections,
        }

    def pin_in(self, name: str) -> int:
        pin = self._pin(name, "input")
        return self._pad("in", pin, next(self.wires)) if "in" in self._cells else pin

    def pin_out(self, name: str, bit: int) -> None:
        if "out" in self._cells:
            self._pad("out", bit, self._pin(name, "output"))
        else:
            self.ports[name] = {"direction": "output", "bits": [bit]}

    def register(self, clk: int, bit: int) -> int:
        kind, clock, data, out = self._cells["ff"]
        wire = next(self.wires)
        self.cell(
            kind,
            {clock: [clk], data: [bit], out: [wire]},
            {clock: "input", data: "input", out: "output"},
        )
        return wire

    def fold(self, bits: list[int]) -> int:
        """Return the exclusive or of up to four bits."""
        kind, inputs, out, function = self._cells["lut"]
        wire = next(self.wires)
        connections: dict[str, Any] = {name: ["0"] for name in inputs}
        connections.update({name: [bit] for name, bit in zip(inputs, bits, strict=False)})
        connections[out] = [wire]
        directions = {**dict.fromkeys(inputs, "input"), out: "output"}
        self.cell(kind, connections, directions, {function: _XOR4})
        return wire

    def _pin(self, name: str, direction: str) -> int:
        wire = next(self.wires)
        self.ports[name] = {"direction": direction, "bits": [wire]}
        return wire

    def _pad(self, which: str, inside: int, outside: int) -> int:
        kind, i, o = self._cells[which]
        self.cell(kind, {i: [inside], o: [outside]}, {i: "input", o: "output"})
        return outside
