"""Sparse integers beside dense codes: what is kept, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import Outliers, StreamLayout, pack
from lutra.sim import random_matrix

COLUMNS = "Columns of outliers must be 0 or more and rise within each row"


def _outliers(pointers, columns, values):
    return Outliers(
        np.array(pointers, dtype=np.int64),
        np.array(columns, dtype=np.int32),
        np.array(values, dtype=np.int64),
    )


def _random(rows, columns, *, seed, peak=1 << 40):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-peak, peak + 1, (rows, columns))
    weights[rng.random((rows, columns)) < 0.9] = 0
    return weights


def test_rows_of_entries():
    outliers = _outliers([0, 2, 2, 3], [1, 4, 0], [5, -6, 7])
    assert outliers.entry_rows.tolist() == [0, 0, 2]
    assert _outliers([0, 0, 0], [], []).entry_rows.tolist() == []


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (40, 5), (3, 300)])
def test_of_a_matrix(shape):
    weights = _random(*shape, seed=shape[1])
    outliers = Outliers.of(weights)
    assert len(outliers.row_pointers) == shape[0] + 1
    assert len(outliers.values) == np.count_nonzero(weights)
    back = np.zeros_like(weights)
    for row in range(shape[0]):
        entries = slice(*outliers.row_pointers[row : row + 2])
        back[row, outliers.columns[entries]] = outliers.values[entries]
    assert np.array_equal(back, weights)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (([], [], []), "Row pointers of outliers must rise from 0"),
        (([1, 2], [0, 1], [5, 5]), "Row pointers of outliers must rise from 0"),
        (([0, 2, 1], [0], [5]), "Row pointers of outliers must rise from 0"),
        (
            ([0, 2], [0], [5, 5]),
            "Outliers must have 2 columns and values, as the row pointers say, not 1 and 2",
        ),
        (
            ([0, 1], [0, 1], [5, 5]),
            "Outliers must have 1 columns and values, as the row pointers say, not 2 and 2",
        ),
        (([0, 1], [-1], [5]), COLUMNS),
        (([0, 2], [3, 3], [5, 5]), COLUMNS),
        (([0, 2], [3, 2], [5, 5]), COLUMNS),
        (([0, 1], [3], [(1 << 40) + 1]), f"Values of outliers must be within ±{1 << 40}"),
        (([0, 1], [3], [-(1 << 40) - 1]), f"Values of outliers must be within ±{1 << 40}"),
        (([0, 1], [3], [-(1 << 63)]), f"Values of outliers must be within ±{1 << 40}"),
    ],
)
def test_refused(fields, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        _outliers(*fields)


def test_columns_may_fall_from_row_to_row():
    assert _outliers([0, 1, 2], [7, 2], [1 << 40, -(1 << 40)]).entry_rows.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["row_pointers", "columns", "values"])
def test_types(name):
    fields = {
        "row_pointers": np.array([0, 1], dtype=np.int64),
        "columns": np.array([0], dtype=np.int32),
        "values": np.array([9], dtype=np.int64),
    }
    dtype = fields[name].dtype
    fields[name] = fields[name].astype(np.int16)
    shape = fields[name].shape
    sentence = f"{name} of outliers must be a vector of {dtype}, not int16 of shape {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Outliers(**fields)
    fields[name] = fields[name].astype(dtype)[None]
    shape = fields[name].shape
    sentence = f"{name} of outliers must be a vector of {dtype}, not {dtype} of shape {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Outliers(**fields)


def test_engines_refuse_them():
    matrix = random_matrix("int4", 4, 16, 16, seed=1)
    layout = StreamLayout(lanes=4, width=16, tile_slices=1, formats=("int4",), group_sizes=(16,))
    assert pack(matrix, layout).beats.size
    sparse = replace(matrix, outliers=_outliers([0, 1, 1, 1, 2], [3, 4], [70, -9]))
    sentence = (
        "Engines have no path for the 2 outliers of a layer; the golden model and PyTorch compute "
        "it"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        pack(sparse, layout)
