"""What cells of a mapped netlist occupy in a device."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...sim import ToolError

__all__ = ["Cells", "count_cells"]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Parts of a device that a design, or a block of it, occupies.

    Parameters
    ----------
    luts : int
        Everything that takes the place of a look-up table: logic, memory and shift registers made
        of them, adders where these are look-up tables with a carry (ECP5, Gowin).
    lutram_luts : int
        Those of ``luts`` that are memory or shift registers, the writing of it included.
    ffs : int
        Flip-flops.
    carry : int
        Carry cells: CCU2C (2 bits), SB_CARRY (1), ALU (1), CARRY4, CARRY8.
    muxes : int
        Multiplexers beside the look-up tables that make wider functions of them.
    brams : int
        Block RAMs of 18 Kb, on iCE40 of 4 Kb; a RAMB36 is two.
    dsps : int
        Multipliers: MULT18X18D, SB_MAC16, MULT18X18 (a 9 x 9 counts as a whole one), DSP48.
    types : mapping of str to int
        All cells by type.
    """

    luts: int = 0
    lutram_luts: int = 0
    ffs: int = 0
    carry: int = 0
    muxes: int = 0
    brams: int = 0
    dsps: int = 0
    types: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Cells") -> "Cells":
        types = dict(self.types)
        for name, count in other.types.items():
            types[name] = types.get(name, 0) + count
        return Cells(
            types=types, **{name: getattr(self, name) + getattr(other, name) for name in _NUMBERS}
        )

    def __mul__(self, count: int) -> "Cells":
        return Cells(
            types={name: number * count for name, number in self.types.items()},
            **{name: getattr(self, name) * count for name in _NUMBERS},
        )


_NUMBERS = tuple(item.name for item in dataclasses.fields(Cells) if item.name != "types")


def _lut(count: int = 1) -> dict[str, int]:
    return {"luts": count}


def _memory(count: int) -> dict[str, int]:
    return {"luts": count, "lutram_luts": count}


# One cell of each type, family by family: what it occupies. A RAM of ECP5 takes two tables more for
# its write port (Lattice FPGA-TN-02204); the wide RAMs of Xilinx are four and eight tables (AMD
# UG474 and UG574), of which one or two do the writing.
_ECP5 = {
    "LUT4": _lut(),
    "CCU2C": {"luts": 2, "carry": 1},
    "TRELLIS_DPR16X4": _memory(6),
    "TRELLIS_FF": {"ffs": 1},
    "PFUMX": {"muxes": 1},
    "L6MUX21": {"muxes": 1},
    "DP16KD": {"brams": 1},
    "PDPW16KD": {"brams": 1},
    "MULT18X18D": {"dsps": 1},
}
_ICE40 = {
    "SB_LUT4": _lut(),
    "SB_CARRY": {"carry": 1},
    "SB_RAM40_4K": {"brams": 1},
    "SB_SPRAM256KA": {},  # four of 256 Kb in an UltraPlus, counted by nextpnr alone
    "SB_MAC16": {"dsps": 1},
    **{
        f"SB_DFF{negative}{kind}": {"ffs": 1}
        for negative in ("", "N")
        for kind in ("", "E", "ER", "ES", "ESR", "ESS", "R", "S", "SR", "SS")
    },
}
_GOWIN = {
    **{f"LUT{inputs}": _lut() for inputs in range(1, 5)},
    "ALU": {"luts": 1, "carry": 1},
    "INV": _lut(),
    "RAM16S4": _memory(4),
    "RAM16SDP1": _memory(4),
    "RAM16SDP2": _memory(4),
    "RAM16SDP4": _memory(4),
    **{f"MUX2_LUT{inputs}": {"muxes": 1} for inputs in range(5, 9)},
    **{
        f"DFF{negative}{kind}": {"ffs": 1}
        for negative in ("", "N")
        for kind in ("", "E", "S", "SE", "R", "RE", "P", "PE", "C", "CE")
    },
    **{name: {"brams": 1} for name in ("DPB", "DPX9B", "SDPB", "SDPX9B", "SP", "SPX9", "pROM")},
    "MULT9X9": {"dsps": 1},
    "MULT18X18": {"dsps": 1},
    "MULT36X36": {"dsps": 4},
}
_XILINX = {
    **{f"LUT{inputs}": _lut() for inputs in range(1, 7)},
    "LUT6_2": _lut(),
    "INV": _lut(),
    "CARRY4": {"carry": 1},
    "CARRY8": {"carry": 1},
    **{f"MUXF{inputs}": {"muxes": 1} for inputs in range(7, 10)},
    **{name: {"ffs": 1} for name in ("FDRE", "FDSE", "FDCE", "FDPE")},
    **{name: {"ffs": 1} for name in ("FDRE_1", "FDSE_1", "FDCE_1", "FDPE_1")},
    **{name: _memory(1) for name in ("SRL16E", "SRLC32E", "RAM32X1S", "RAM64X1S")},
    **{name: _memory(2) for name in ("RAM32X1D", "RAM64X1D", "RAM128X1S")},
    **{name: _memory(4) for name in ("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S")},
    **{name: _memory(8) for name in ("RAM32M16", "RAM64M8", "RAM256X1D", "RAM512X1S")},
    **{name: _memory(8) for name in ("RAM32X16DR8", "RAM64X8SW")},
    **{name: {"brams": 1} for name in ("RAMB18E1", "RAMB18E2")},
    **{name: {"brams": 2} for name in ("RAMB36E1", "RAMB36E2")},
    **{name: {"dsps": 1} for name in ("DSP48E1", "DSP48E2")},
}
_FAMILIES: dict[str, dict[str, dict[str, int]]] = {
    "ecp5": _ECP5,
    "ice40": _ICE40,
    "gowin": _GOWIN,
    "xc7": _XILINX,
    "xcup": _XILINX,
}

# Constants, pads and buffers of clocks: they take none of what is counted.
_FREE = {
    *("GND", "VCC", "VLO", "VHI", "IBUF", "OBUF", "TBUF", "IOBUF", "BUFG", "BUFGCTRL", "GSR"),
    *("SB_GB", "SB_IO", "SB_GB_IO", "TRELLIS_IO", "DCCA", "BB", "IB", "OB", "SGSR"),
    *("$scopeinfo",),
}


def count_cells(types: Mapping[str, int], family: str) -> Cells:
    """Count what cells occupy.

    Parameters
    ----------
    types : mapping of str to int
        How many cells there are of each type.
    family : str
        A target's family.

    Raises
    ------
    :exc:`ToolError`
        If a cell's place in the device is not known: the counts would be too low.
    """
    known = _FAMILIES[family]
    numbers = dict.fromkeys(_NUMBERS, 0)
    for name, count in types.items():
        if name not in known and name not in _FREE:
            raise ToolError(
                f"Yosys left a cell of type {name}, which {family} is not known to have"
            )
        for number, each in known.get(name, {}).items():
            numbers[number] += each * count
    return Cells(types=dict(types), **numbers)
