import numpy as np
import pytest

from lutra.formats import CATALOG, ValueFormat, family
from lutra.quant.row_tables import RowTables


@pytest.mark.parametrize("name", ["int2", "int3_asym", "ternary", "bitmod3", "bcq3_asym", "free3"])
def test_nearest_equals_its_definition(name):
    rng = np.random.default_rng(3)
    members = family(name).members
    count = 40
    ids = rng.integers(0, len(members), count).astype(np.uint8)
    scales = rng.integers(-9, 10, (count, max(item.scale_count for item in members)))
    if isinstance(members[0], ValueFormat):
        scales = np.abs(scales)
    has_zero = members[0].has_zero_point
    zeros = rng.integers(0, 1 << members[0].code_width, count) if has_zero else np.zeros(count)
    steps = rng.choice(np.array([0, 0.25, 1, 2], np.float32), count)
    tables = RowTables(members, ids, scales.astype(np.int32), zeros.astype(np.uint8), steps)
    for _ in range(20):
        x = (rng.integers(-400, 400, count) / 8).astype(np.float32)
        codes, weights = tables.nearest(x)
        for n in range(count):
            item = members[ids[n]]
            table = item.weight_table(scales[n][: item.scale_count]).astype(float)
            if has_zero:
                table -= table[int(zeros[n])]
            table *= float(steps[n])
            usable = [c for c in range(len(table)) if c not in getattr(item, "unused", ())]
            nearest = min(usable, key=lambda c: (abs(table[c] - x[n]), table[c]))
            assert weights[n] == table[nearest] == table[codes[n]]
            assert codes[n] in usable


def test_a_scale_of_zero_takes_the_code_of_zero():
    for name, entry in CATALOG.items():
        item = entry.members[0]
        if not isinstance(item, ValueFormat) or item.has_zero_point or 0 not in item.values:
            continue
        zero = np.zeros(1, np.uint8)
        tables = RowTables((item,), zero, np.zeros((1, 1), np.int32), zero, np.ones(1, np.float32))
        for x in (-1, 0, 1):
            codes, weights = tables.nearest(np.array([x], np.float32))
            assert item.values[codes[0]] == 0, name
            assert weights[0] == 0
