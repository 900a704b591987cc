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
def test_what_does_not_depend_on_the_text_is_as_in_the_table(size, name, method, tmp_path):
    case = Case(size=size, format=name, group_size=32, method=method)
    (row,) = (row for row in read_rows() if row.key == case.key)
    found = Measure(size, load_config("small"), tmp_path).evaluation(case)
    again = replace(row, **counted(found))
    assert again == row, f"run evaluate.py --recount: {TABLE.name} is older than the code"


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


def test_recounting_leaves_losses(monkeypatch, tmp_path):
    table = tmp_path / "table.csv"
    some = [row for row in read_rows() if (row.size, row.format) == ("small", "int4")]
    for row in some:
        evaluate._append(table, replace(row, cycles="1", sqnr_db="2"))
    run(monkeypatch, "--sizes", "small", "--recount", "--table", table)
    measure = Measure("small", load_config("small"), tmp_path)
    assert read_rows(table) == [replace(row, **counted(measure.evaluation(row))) for row in some]


def test_other_sizes_are_refused(monkeypatch):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--sizes", "huge")
