"""Registers behind block RAM that become the block RAM's own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["use_output_registers"]

_BLOCK, _REGISTER = "DP16KD", "TRELLIS_FF"
_DATA_WIDTH = 18
_WIDE = 36  # one port for reading: its bits are those of both

# A flip-flop that does nothing but keep what it gets, as Yosys writes it.
_PLAIN = {"CLKMUX": "CLK", "LSRMUX": "LSR", "GSR": "DISABLED", "REGSET": "RESET"}


def use_output_registers(netlist: dict[str, Any]) -> int:
    """Take flip-flops behind an ECP5's block RAM into its output registers.

    Block RAM alone takes more than half of a cycle of 10 ns, and less than a quarter of that with
    its output register, which Yosys does not use. A port's is used where every bit that it reads
    goes to a flip-flop and nowhere else, with the port's clock and enable and never reset, as the
    port: then the same bits are there in the same cycle.

    Parameters
    ----------
    netlist : dict
        Yosys' JSON; changed in place. Modules are looked at one by one.

    Returns
    -------
    int
        How many flip-flops were taken.
    """
    return sum(_take_registers(module) for module in netlist["modules"].values())


def _take_registers(module: dict[str, Any]) -> int:
    cells = module.get("cells", {})
    blocks = [cell for cell in cells.values() if cell["type"] == _BLOCK]
    users = _count_users(module) if blocks else Counter()
    registers = {
        cell["connections"]["DI"][0]: name
        for name, cell in cells.items()
        if cell["type"] == _REGISTER and cell["connections"].get("DI")
    }
    taken = 0
    for block in blocks:
        wires = block["connections"]
        for ports, reader in _readers(block):
            # Bits that nobody reads stay as they are.
            outputs = [
                name
                for port in ports
                for name in (f"DO{port}{bit}" for bit in range(_DATA_WIDTH))
                if wires.get(name) and users[wires[name][0]]
            ]
            if not all(_has_room(block, port) for port in ports):
                continue
            behind = [registers.get(wires[name][0], "") for name in outputs]
            clocks = {_clock(block, port) for port in ports}
            if not outputs or None in clocks or len(clocks) > 1:
                continue
            control = (*clocks, wires[f"CE{reader}"][0])
            if not all(
                users[wires[name][0]] == 1
                and register
                and _control_if_plain(cells[register]) == control
                for name, register in zip(outputs, behind, strict=True)
            ):
                continue
            for name, register in zip(outputs, behind, strict=True):
                wires[name] = cells.pop(register)["connections"]["Q"]
            for port in ports:
                block["parameters"][f"REGMODE_{port}"] = "OUTREG"
                wires[f"OCE{port}"] = wires[f"CE{reader}"]
            taken += len(outputs)
    return taken


def _count_users(module: Mapping[str, Any]) -> Counter[Any]:
    """Count what reads each wire: inputs of cells, the module's outputs."""
    users: Counter[Any] = Counter()
    for cell in module["cells"].values():
        for name, bits in cell["connections"].items():
            if cell["port_directions"][name] != "output":
                users.update(bit for bit in bits if isinstance(bit, int))
    for port in module.get("ports", {}).values():
        if port["direction"] != "input":
            users.update(bit for bit in port["bits"] if isinstance(bit, int))
    return users


def _has_room(block: Mapping[str, Any], port: str) -> bool:
    """Whether a port's output register is unused, and its enables are not inverted."""
    parameters = block["parameters"]
    if parameters.get(f"REGMODE_{port}", "NOREG").strip() != "NOREG":
        return False
    return all(parameters.get(f"{name}{port}MUX") != "INV" for name in ("CE", "OCE"))


def _readers(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield ports that read together, and which of them has clock and enable."""
    wide = int(block["parameters"]["DATA_WIDTH_B"], 2) == _WIDE
    yield from [("AB", "B")] if wide else [("A", "A"), ("B", "B")]


def _clock(block: Mapping[str, Any], port: str) -> Any:
    """Return the clock of a port that is never reset; None of others."""
    wires = block["connections"]
    if wires[f"RST{port}"] != ["0"]:
        return None
    if block["parameters"][f"CLK{port}MUX"] != f"CLK{port}":
        return None
    return wires[f"CLK{port}"][0]


def _control_if_plain(register: Mapping[str, Any]) -> Any:
    """Return clock and enable of a flip-flop that only keeps what it gets; None of others."""
    parameters, wires = register["parameters"], register["connections"]
    # Yosys writes a trailing space after strings that could be numbers.
    if any(parameters.get(name, "").strip() != value for name, value in _PLAIN.items()):
        return None
    if wires.get("LSR", ["0"]) != ["0"] or wires.get("M", []):
        return None
    enable = parameters["CEMUX"].strip()
    if enable not in ("1", "CE"):
        return None
    return wires["CLK"][0], wires["CE"][0] if enable == "CE" else enable
