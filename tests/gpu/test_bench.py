"""The bench without a GPU: every row is there and says that nothing was measured."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench" / "gpu.py"


@pytest.fixture
def bench(monkeypatch):
    pytest.importorskip("triton", reason="needs triton: pip install 'lutra[gpu]'")
    spec = importlib.util.spec_from_file_location("gpu_bench", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_bench", module)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_estimated(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["--shapes", "64x128", "--formats", "int4", "--tokens", "1", "16"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments, "--output", str(tmp_path)])
    bench.main()
    with (tmp_path / "gpu.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (1 + len(bench.PEERS) + 1)
    assert {row["note"] for row in rows} == {"not measured"}
    numbers = ("microseconds", "gigabytes_per_second", "share_of_copy", "time_of_float16")
    assert not any(row[name] for row in rows for name in numbers)
    assert "not measured" in (tmp_path / "gpu.svg").read_text(encoding="utf-8")
    assert "are not measured" in capsys.readouterr().out


def test_plot_has_a_line_for_each_format(bench, tmp_path):
    rows = [
        bench.Row(64, 128, what, tokens, time_of_float16=share)
        for what, share in (("float16", 1.0), ("int4", 0.5))
        for tokens in (1, 2, 4)
    ]
    bench.write_plot(tmp_path / "plot.svg", rows)
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert text.count('stroke-width="1.5"') == 2
    assert "64 x 128" in text
