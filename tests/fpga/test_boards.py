# amaranth: UnusedElaboratable=no
"""What is known of the boards, and what becomes of it."""

import dataclasses
import json
import sys

import pytest

from lutra.fpga import BOARDS, BoardMemory, board_identity, find_board
from lutra.fpga.platform_top import pinned_top
from lutra.gen.board_verilog import board_config, identity_of
from lutra.gen.cli import main
from lutra.gen.synth import find_target


def test_the_three_boards_are_there():
    assert list(BOARDS) == ["icebreaker", "tangnano20k", "ulx3s"]


@pytest.mark.parametrize("name", BOARDS)
def test_folder_is_complete(name):
    board = find_board(name)
    assert (board.folder / "README.md").is_file()
    assert board_config(board).name == f"lutra_{name}"
    assert find_target(board.target)
    assert board.divisor * board.baud == board.clock


@pytest.mark.parametrize(
    ("name", "pins"),
    [
        ("icebreaker", ["rx__io 6", "tx__io 9", "clk12_0__io 35", "clk12_0__io 12.0"]),
        ("ulx3s", ['rx__io" SITE "M1"', 'tx__io" SITE "L4"', '0__io" SITE "G2"', "25000000.0 HZ"]),
        ("tangnano20k", ['"rx" 70', '"tx" 69', '"clk" 4', '"rst" 88']),
    ],
)
def test_pins(name, pins):
    top = pinned_top(find_board(name), "board_module")
    assert "board_module board" in top.verilog
    assert "src =" not in top.verilog
    for pin in pins:
        assert pin in top.constraints


def test_hash_covers_all_that_a_host_has_to_know():
    board = find_board("icebreaker")
    engine = board_config(board).to_dict()
    hashes = {identity_of(item) for item in BOARDS.values()}
    assert identity_of(board) == board_identity(engine, board.memory)
    hashes.add(board_identity(engine | {"name": "other"}, board.memory))
    for name in ("weights", "activations", "outputs"):
        memory = dataclasses.replace(board.memory, **{name: 2})
        hashes.add(board_identity(engine, memory))
    assert len(hashes) == 7
    assert {len(value) for value in hashes} == {8}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"baud": 900_000}, "baud must divide the clock of 12000000 Hz to at least 4, not 900000"),
        ({"baud": 6_000_000}, "baud must divide the clock of 12000000 Hz to at least 4, "),
        ({"platform": ""}, "Board 'icebreaker' must name either a platform or constraints"),
        ({"constraints": "x"}, "Board 'icebreaker' must name either a platform or constraints"),
    ],
)
def test_boards_that_cannot_be(changes, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        dataclasses.replace(find_board("icebreaker"), **changes)


def test_memory_must_have_words():
    with pytest.raises(ValueError, match=r"^memory\.outputs must be an integer in 1\.\.2\^24, no"):
        BoardMemory(weights=1, activations=1, outputs=0)


def test_list(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lutra", "board", "list", "--json"])
    with pytest.raises(SystemExit):
        main()
    listed = json.loads(capsys.readouterr().out)["boards"]
    assert [item["board"] for item in listed] == list(BOARDS)
    assert [item["weight_bytes"] for item in listed] == [65_536, 32_768, 262_144]


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_bitstream(monkeypatch, capsys, tmp_path, name):
    arguments = ["board", "build", name, "--output", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", ["lutra", *arguments])
    with pytest.raises(SystemExit):
        main()
    built = json.loads(capsys.readouterr().out)
    assert built["fmax_mhz"] >= built["clock_mhz"] == find_board(name).clock / 1e6
    assert all(used <= there for used, there in built["utilisation"].values())
    (file,) = (tmp_path / name).iterdir()
    assert str(file) == built["file"]
    assert file.stat().st_size == built["bytes"] > 10_000
