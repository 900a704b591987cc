"""The measurements of ``examples/tinylm`` that ``docs/accuracy.md`` is made from."""

import sys
from dataclasses import replace

import evaluate
import pytest
from evaluate import TABLE, Case, Measure, counted, read_rows

from lutra.formats import CATALOG
from lutra.gen import load_config
from lutra.quant import METHODS


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    evaluate.main()


def test_every_case_is_in_the_table_once():
    keys = [row.key for row in read_rows()]
    assert len(keys) == len(set(keys)) > 100


def test_cases_come_from_the_registries():
    wanted = list(evaluate.cases("medium"))
    served = {
        entry.name
        for entry in CATALOG.values()
        if any(method.serves(entry) for method in METHODS.values())
    }
    assert {case.format for case in wanted} == served
    assert {case.method for case in wanted if case.format == "int8"} == {"absmax", "mse"}
    int3 = {(case.method, case.options) for case in wanted if case.format == "int3"}
    assert int3 >= {("absmax", ""), ("mse", ""), ("mse", "weighting=activation"), ("gptq", "")}
    for size in ("small", "large"):
        assert {case.format for case in evaluate.cases(size)} <= served


@pytest.mark.parametrize(
    ("size", "name", "method"),
    [("medium", "int3", "mse"), ("small", "bitmod4", "absmax"), ("medium", "bcq2_asym", "greedy")],
)
def test_errors_and_bits_are_as_in_the_table(size, name, method, tmp_path):
    row, found = again(size, name, method, tmp_path)
    found = replace(found, cycles=row.cycles)
    assert found == row, f"run evaluate.py --recount all: {TABLE.name} is older than the code"


@pytest.mark.slow  # changes of the engine's timing need not end with a new table
@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("name", ["int3", "bitmod4", "float4_e2m1"])
def test_cycles_are_as_in_the_table(size, name, tmp_path):
    row, found = again(size, name, "absmax", tmp_path)
    assert found == row, f"run evaluate.py --recount cycles: {TABLE.name} is older than the code"


def again(size, name, method, folder):
    """Return a row of the table, and the same with what does not depend on the text anew."""
    case = Case(size=size, format=name, group_size=32, method=method)
    (row,) = (row for row in read_rows() if row.key == case.key)
    found = Measure(size, load_config("small"), folder).evaluation(case)
    return row, replace(row, **counted(found))


def test_what_is_known_is_not_measured_again(monkeypatch, tmp_path):
    table = tmp_path / "table.csv"
    arguments = ("--sizes", "small", "--windows", 1, "--table", table, "--formats", "int4")
    run(monkeypatch, *arguments)
    lines = table.read_text().splitlines()
    rows = read_rows(table)
    assert len(lines) == len(rows) + 1
    assert [row.format for row in rows] == ["float16"] + ["int4"] * (len(rows) - 1)
    assert all(row.windows == 1 and row.loss > 0 for row in rows)
    assert all(row.excess == pytest.approx(row.loss - rows[0].loss, abs=2e-5) for row in rows)

    kept = [line for line in lines if ",32,mse," not in line]
    table.write_text("\n".join(kept) + "\n")
    run(monkeypatch, *arguments)
    assert table.read_text().splitlines() == kept + [line for line in lines if line not in kept]


@pytest.mark.parametrize("what", ["all", "cycles"])
def test_recounting_leaves_losses(monkeypatch, tmp_path, what):
    table = tmp_path / "table.csv"
    some = [
        row
        for row in read_rows()
        if (row.size, row.format, row.method)
        in (("small", "int4", "mse"), ("small", "bitmod4", "mse"))
        and not row.options
    ]
    spoilt = {"cycles": "1"} if what == "cycles" else {"cycles": "1", "sqnr_db": "2"}
    for row in some:
        evaluate._append(table, replace(row, **spoilt))
    run(monkeypatch, "--sizes", "small", "--recount", what, "--table", table)
    measure = Measure("small", load_config("small"), tmp_path)
    assert len(some) == 4
    assert read_rows(table) == [replace(row, **counted(measure.evaluation(row))) for row in some]


def test_other_sizes_are_refused(monkeypatch):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--sizes", "huge")
