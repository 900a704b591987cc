import pytest

from lutra.gen.synth import count_cells
from lutra.sim import ToolError


@pytest.mark.parametrize(
    ("family", "types", "numbers"),
    [
        ("ecp5", {"LUT4": 3, "CCU2C": 2, "TRELLIS_DPR16X4": 5}, (3 + 4 + 30, 30, 0, 2, 0, 0)),
        ("ecp5", {"TRELLIS_FF": 7, "DP16KD": 2, "MULT18X18D": 1, "PFUMX": 1}, (0, 0, 7, 0, 2, 1)),
        ("ice40", {"SB_LUT4": 3, "SB_CARRY": 2, "SB_DFFESR": 4}, (3, 0, 4, 2, 0, 0)),
        ("ice40", {"SB_RAM40_4K": 3, "SB_MAC16": 2, "SB_DFF": 1}, (0, 0, 1, 0, 3, 2)),
        ("ice40", {"SB_SPRAM256KA": 2, "SB_LUT4": 1}, (1, 0, 0, 0, 0, 0)),
        ("gowin", {"LUT2": 1, "ALU": 2, "RAM16SDP4": 1, "DFFRE": 1}, (7, 4, 1, 2, 0, 0)),
        ("gowin", {"SDPX9B": 1, "MULT36X36": 1, "GND": 1}, (0, 0, 0, 0, 1, 4)),
        ("xc7", {"LUT6": 2, "INV": 1, "RAM32M": 3, "SRL16E": 1}, (2 + 1 + 12 + 1, 13, 0, 0, 0, 0)),
        ("xc7", {"RAM64M": 1, "RAM64X1D": 1, "CARRY4": 2, "MUXF7": 9}, (6, 6, 0, 2, 0, 0)),
        ("xcup", {"RAM32M16": 2, "RAM64M8": 1, "CARRY8": 1}, (24, 24, 0, 1, 0, 0)),
        ("xcup", {"RAMB36E2": 2, "RAMB18E2": 1, "DSP48E2": 3, "FDRE": 4}, (0, 0, 4, 0, 5, 3)),
    ],
)
def test_what_cells_occupy(family, types, numbers):
    cells = count_cells(types, family)
    found = (cells.luts, cells.lutram_luts, cells.ffs, cells.carry, cells.brams, cells.dsps)
    assert found == numbers
    assert cells.types == types


@pytest.mark.parametrize("name", ["$_DLATCH_P_", "RAM32M", "TRELLIS_SLICE"])
def test_cells_that_are_not_known_are_not_left_out(name):
    with pytest.raises(ToolError, match=r"which ecp5 is not known to have$"):
        count_cells({"LUT4": 1, name: 1}, "ecp5")


def test_sums_and_multiples():
    lane = count_cells({"LUT4": 2, "CCU2C": 1, "TRELLIS_DPR16X4": 1}, "ecp5")
    rest = count_cells({"LUT4": 5, "TRELLIS_FF": 1, "DP16KD": 1}, "ecp5")
    assert rest + lane * 3 == count_cells(
        {"LUT4": 11, "TRELLIS_FF": 1, "DP16KD": 1, "CCU2C": 3, "TRELLIS_DPR16X4": 3}, "ecp5"
    )
