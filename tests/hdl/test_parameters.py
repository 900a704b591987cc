# amaranth: UnusedElaboratable=no
"""Parameters of an engine: what is refused, and widths that hold the worst case and no more."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from amaranth import Shape

from lutra.formats import CATALOG, FreeFormat, Numerics, family
from lutra.hdl.lookup import entries_layout
from lutra.sim import random_matrix

INT8 = Numerics(activation="int8", act_width=8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mu": 0}, "mu must be an integer in 1..8 for table 'full', not 0"),
        ({"mu": 9}, "mu must be an integer in 1..8 for table 'full', not 9"),
        ({"mu": 4.0}, "mu must be an integer in 1..8 for table 'full', not 4.0"),
        ({"table": "quarter"}, "table must be 'full', 'half' or 'block', not 'quarter'"),
        (
            {"table": "half", "mu": 1},
            "mu must be at least 2 for half tables; use 2 or more, or table 'full'",
        ),
        ({"banks": 3}, "banks must be 1 or 2, not 3"),
        (
            {"banks": 1, "formats": ("int4", "int3")},
            "banks must be 2 where formats differ in the bits of their codes or headers, not 1",
        ),
        ({"adder_levels": 0}, "adder_levels must be in 1..4, not 0"),
        ({"adder_levels": 5}, "adder_levels must be in 1..4, not 5"),
        ({"adder_levels": "1"}, "adder_levels must be in 1..4, not '1'"),
        ({"lut_inputs": 3}, "lut_inputs must be in 4..6, not 3"),
        ({"lut_inputs": 7}, "lut_inputs must be in 4..6, not 7"),
        ({"lut_inputs": "6"}, "lut_inputs must be in 4..6, not '6'"),
        ({"multiply": "booth"}, "multiply must be 'serial' or 'dsp', not 'booth'"),
        ({"act_lanes": 3}, "act_lanes must divide the 8 weights of a lane's cycle, not 3"),
        ({"act_lanes": 0}, "act_lanes must divide the 8 weights of a lane's cycle, not 0"),
        ({"act_lanes": 16}, "act_lanes must divide the 8 weights of a lane's cycle, not 16"),
        ({"act_lanes": "4"}, "act_lanes must divide the 8 weights of a lane's cycle, not '4'"),
        ({"tokens": 0}, "tokens must be 1, 2, 4 or 8, not 0"),
        ({"tokens": 3}, "tokens must be 1, 2, 4 or 8, not 3"),
        ({"tokens": 16}, "tokens must be 1, 2, 4 or 8, not 16"),
        ({"tokens": "2"}, "tokens must be 1, 2, 4 or 8, not '2'"),
        (
            {"engine": "term", "fold": 3},
            "fold must divide the 8 weights of a lane's slice, not 3",
        ),
        (
            {"engine": "term", "fold": 0},
            "fold must divide the 8 weights of a lane's slice, not 0",
        ),
        (
            {"engine": "mac", "fold": 2.0},
            "fold must divide the 8 weights of a lane's slice, not 2.0",
        ),
        (
            {"engine": "mac", "product": "booth"},
            "product must be 'logic' or 'dsp', not 'booth'",
        ),
        (
            {"engine": "mac", "fold": 4, "act_lanes": 4},
            "act_lanes must divide the 2 weights of a lane's cycle, not 4",
        ),
        (
            {
                "formats": ("int8",),
                "numerics": Numerics(act_width="exact"),
                "scale_width": 16,
                "max_columns": 4096,
            },
            (
                "The exact sum of 4096 columns needs 76 bits, over the limit of 63; "
                "lower max_columns, act_width or scale_width"
            ),
        ),
    ],
)
def test_refused(hdl, changes, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        hdl.parameters(**changes)


def test_limit_of_the_sum(hdl):
    """63 bits are built, 64 are not."""
    numerics = Numerics(activation="float32", act_width=24)
    settings = {"formats": ("int8_asym",), "numerics": numerics, "scale_width": 16}
    most = ((1 << 62) - 1) // (255 * 65535 * numerics.peak)
    assert hdl.parameters(**settings, max_columns=most).sum_width == 63
    with pytest.raises(ValueError, match=r"needs 64 bits, over the limit of 63; lower max_col"):
        hdl.parameters(**settings, max_columns=most + 1)


def _bits(peak):
    """Fewest bits of a two's complement number that is at least ``peak`` and ``-peak``."""
    return next(width for width in range(1, 80) if (1 << width - 1) - 1 >= peak)


def _largest(item):
    """Return the largest magnitude of a weight for any scales of ±1."""
    if isinstance(item, FreeFormat):
        return 1
    largest = 0
    for scales in itertools.product((-1, 1), repeat=item.scale_count):
        table = item.weight_table(scales)
        low, high = int(table.min()), int(table.max())
        largest = max(largest, high - low if item.has_zero_point else max(high, -low))
    return largest


@pytest.mark.parametrize("name", CATALOG)
@pytest.mark.parametrize("numerics", [INT8, Numerics(act_width=13), Numerics(act_width="exact")])
def test_widths(hdl, name, numerics):
    members = family(name).members
    largest = max(_largest(item) for item in members)
    if _bits(50 * largest * 31 * numerics.peak) > 63:
        with pytest.raises(ValueError, match=r"^The exact sum of 50 columns needs \d\d bits, over"):
            hdl.parameters((name,), numerics, scale_width=5, max_columns=50)
        return
    parameters = hdl.parameters((name,), numerics, mu=3, scale_width=5, max_columns=50)
    assert Shape.cast(entries_layout(parameters).elem_shape).width == _bits(3 * numerics.peak)
    assert parameters.slice_width == _bits(8 * numerics.peak)
    assert parameters.sum_width == _bits(50 * largest * 31 * numerics.peak)
    # Formats with several scales take them slice by slice; others scale a whole group of a tile.
    several = members[0].scale_count > 1
    assert parameters.scales_every_step == several
    one_scale = (1 << members[0].code_width) - 1 if name.endswith("_affine") else 1
    columns, peak = (8, one_scale) if several else (16, largest)
    assert parameters.segment_width == _bits(columns * peak * numerics.peak)


def test_numbers(hdl):
    parameters = hdl.parameters(
        ("bitmod4", "int2"), width=16, mu=3, act_lanes=8, group_sizes=(16, 32), max_columns=100
    )
    assert parameters.core.tables(16) == 6
    assert parameters.core.entries == 8
    assert dataclasses.replace(parameters.core, table="half").entries == 4
    assert parameters.part_width == 16
    assert parameters.max_act_beats == 13
    assert parameters.beats_of_slice == 2
    assert not parameters.scales_every_step


def test_parameters_are_values(hdl):
    assert hdl.parameters() == hdl.parameters()
    assert hash(hdl.parameters()) == hash(hdl.parameters())
    assert hdl.parameters() != hdl.parameters(mu=3)
    assert hdl.parameters() != hdl.parameters(tokens=2)
    assert hdl.parameters() != hdl.parameters(engine="term")
    with pytest.raises(dataclasses.FrozenInstanceError):
        hdl.parameters().tokens = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        hdl.parameters().core.mu = 3


@pytest.mark.parametrize("name", CATALOG)
@pytest.mark.parametrize("fold", [1, 2, 4])
def test_cycles(hdl, name, fold):
    """Planes, terms or products, each for every part of a slice."""
    lut = hdl.parameters((name,))
    items = lut.layout.members
    assert lut.member_cycles == tuple(len(item.planes) for item in items)
    assert lut.max_cycles == max(lut.member_cycles)
    term = hdl.parameters((name,), engine="term", fold=fold, act_lanes=2)
    assert term.member_cycles == tuple(len(item.term_steps) * fold for item in items)
    mac = hdl.parameters((name,), engine="mac", fold=fold, act_lanes=2)
    assert mac.member_cycles == tuple(item.scale_count * fold for item in items)
    for parameters in (term, mac):
        assert parameters.part_width == 8 // fold


def test_pack_deals_by_cycles(hdl):
    """Rows of equal width that take unequally long are dealt evenly all the same."""
    parameters = hdl.parameters(("bitmod4", "int4"), max_rows=64)
    members = parameters.layout.members
    assert len({item.code_width for item in members}) == 1
    assert len(set(parameters.member_cycles)) == 2
    matrix = random_matrix(members, 64, 80, 80, seed=1)
    ids = np.where(np.arange(64) % 2, len(members) - 1, 0).astype(np.uint8)
    matrix = dataclasses.replace(matrix, format_ids=ids[:, None])
    packed = parameters.pack(matrix)
    loads = np.array(parameters.member_cycles)[packed.formats] @ packed.slices
    assert loads.max() == loads.min() == packed.useful_cycles
