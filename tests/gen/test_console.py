import json

import pytest

from lutra.gen.console import number, print_json, print_line, print_table, progress_bar, weights_bar


def test_names_with_brackets_are_not_markup(capsys):
    print_table("[bold]t[/x]", ("[a]", "b"), [("layers[0].[red]w[/]", 1)])
    out = capsys.readouterr().out
    for part in ("[bold]t[/x]", "[a]", "layers[0].[red]w[/]"):
        assert part in out


def test_long_cells_are_not_cut_where_there_is_no_terminal(capsys):
    print_table("t", ("a",), [("x" * 150,)])
    assert "x" * 150 in capsys.readouterr().out


def test_an_empty_table(capsys):
    print_table("t", ("a", "b"), [])
    assert "a" in capsys.readouterr().out


def test_lines_and_json(capsys):
    print_line("one")
    assert capsys.readouterr().out == "one\n"
    print_json({"a": [1, None, "ö"]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None, "ö"]}


def test_nobody_listens(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    print_line("one")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1234.5678, "1,234.57 s"), (0, "0.00 s"), (5, "5.00 s")]
)
def test_numbers(value, text):
    assert number(value, 2, " s") == text


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with progress_bar() as progress:
        progress("[red]working[/nothing]", 0.5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar() as progress:
        progress("layers[0].[red]w[/nothing]", 0.5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "layers[0].[red]w[/nothing]" in captured.err
    assert "50 %" in captured.err


def test_weights_are_silent_where_there_is_no_terminal(capsys):
    with weights_bar() as progress:
        progress("a", 0, 100)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_weights_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    clock = iter(range(1000))
    monkeypatch.setattr("rich.console.monotonic", lambda: float(next(clock)))
    with weights_bar() as progress:
        progress("layers[0].[red]w[/nothing]", 0, 400_000_000)
        for done in (100_000_000, 200_000_000, 300_000_000):
            progress("layers[1]", done, 400_000_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in ("layers[1]", "75 %", "M weights/s", "left"):
        assert part in captured.err


def test_no_weights_at_all(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with weights_bar() as progress:
        progress("a", 0, 0)
    assert capsys.readouterr().out == ""
