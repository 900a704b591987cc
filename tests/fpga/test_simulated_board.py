"""The host program against whole boards, compiled, behind pseudo-terminals."""

import json
import sys

import numpy as np
import pytest
import serial

from lutra.fpga import Fault, Link, LinkError
from lutra.fpga.protocol import Memory, Request, encode_frame
from lutra.gen.cli import main

SHAPES = {
    "icebreaker": ("20x70", "bcq1", "64"),
    "tangnano20k": ("19x200", "bitmod4,int4", "64"),
    "ulx3s": ("37x500", "bitmod4,int4", "128"),
}


@pytest.fixture
def lutra(monkeypatch, capsys):
    """Run the command line in this process; return its status and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lutra", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


def arguments(board, port, *, name="", tokens=3):
    shape, formats, group = SHAPES[name or board]
    chosen = ("--shape", shape, "--format", formats, "--group-size", group, "--tokens", tokens)
    return ("board", "run", "--board", board, "--port", port, *chosen)


def check(lutra, simulated, name, faults=(), *, tokens=3):
    """Run the host program against a board; return its report."""
    with simulated(name, faults) as board:
        status, out, err = lutra(*arguments(name, board.port, tokens=tokens), "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    rows = int(SHAPES[name][0].split("x")[0])
    assert report["outputs"] == tokens * rows
    assert report["mismatches"] == 0
    assert report["bit_exact"] is True
    assert report["cycles"] == report["predicted_cycles"] > 0
    return report


@pytest.mark.parametrize(
    "name",
    [
        "icebreaker",
        pytest.param("tangnano20k", marks=pytest.mark.slow),
        pytest.param("ulx3s", marks=pytest.mark.slow),
    ],
)
def test_boards_answer_with_the_golden_model_s_bits(lutra, simulated, name):
    check(lutra, simulated, name)


def test_more_tokens_than_the_memories_hold(lutra, simulated):
    check(lutra, simulated, "icebreaker", tokens=17)  # 128 words hold outputs of 6 tokens


# HELLO takes 8 bytes or a few more on the line, CLEAR as many; then come weights in long frames.
@pytest.mark.parametrize("direction", ["to_board", "to_host"])
@pytest.mark.parametrize("flip", [0, 0x5F])
@pytest.mark.parametrize("byte", [0, 5, 30, 200])
def test_damaged_bytes_are_detected_and_repaired(lutra, simulated, direction, flip, byte):
    check(lutra, simulated, "icebreaker", [Fault(direction, byte, flip)])


def test_many_damaged_bytes(lutra, simulated):
    rng = np.random.default_rng(1)
    numbers = rng.choice(1500, 12, replace=False)
    faults = [
        Fault("to_board" if index % 2 else "to_host", int(number), int(rng.integers(256)))
        for index, number in enumerate(numbers)
    ]
    assert check(lutra, simulated, "icebreaker", faults)["repeats"] > 0


def test_a_request_that_comes_twice_is_done_once(simulated):
    with simulated("icebreaker") as board, serial.Serial(board.port, timeout=0.01) as port:
        link = Link(port, timeout=10)
        link.hello()
        link.clear()
        link.write(Memory.WEIGHTS, bytes(4 * 8), 4)
        link.write(Memory.ACTIVATIONS, bytes(8), 1)
        # No layer: the engine stops at once. A second run would begin its count of cycles anew.
        first = link.run(words=8, passes=1, beats=8, expected=1)
        assert not first.running
        run = bytes([link._sequence - 1 & 255, Request.RUN, 8, 0, 0, 1, 8, 0])
        for _ in range(3):
            port.write(encode_frame(run))
        assert link.status() == first
        with pytest.raises(LinkError, match=r"^The board refused RUN: it does not take"):
            link.run(words=0, passes=1, beats=8, expected=1)


def test_unfit_requests_are_refused(simulated):
    with simulated("icebreaker") as board, serial.Serial(board.port, timeout=0.01) as port:
        link = Link(port, timeout=10)
        link.hello()
        for request, body in [
            (Request.WRITE, bytes([Memory.WEIGHTS, 0, 0, 0])),  # no words
            (Request.WRITE, bytes([Memory.WEIGHTS, 0, 0, 0, 1, 2, 3])),  # part of a word
            (Request.WRITE, bytes([Memory.WEIGHTS, 0, 64, 0, 1, 2, 3, 4])),  # behind the last
            (Request.WRITE, bytes([Memory.WEIGHTS, 0, 0, 1, 1, 2, 3, 4])),
            (Request.WRITE, bytes([7, 0, 0, 0, 1, 2, 3, 4])),  # no such memory
            (Request.READ, bytes([0, 0, 0, 0])),
            (Request.READ, bytes([127, 0, 0, 2])),
            (Request.READ, bytes([0, 0, 0])),
            (Request.RUN, bytes([1, 64, 0, 1, 1, 0])),
            (Request.RUN, bytes([1, 0, 0, 0, 1, 0])),
            (Request.RUN, bytes([1, 0, 0, 1, 1, 4])),
            (Request.STATUS, b"\0"),
            (Request.HELLO, b"\0"),
        ]:
            with pytest.raises(LinkError, match=r"^The board refused"):
                link._ask(request, body)
        link._ask(Request.WRITE, bytes([Memory.WEIGHTS, 255, 63, 0, 1, 2, 3, 4]))  # the last one


def test_engine_error_is_named(simulated, lutra, monkeypatch):
    """Weights of another layout: the host says so, and the board is as good as new after that."""
    with simulated("icebreaker") as board:
        with monkeypatch.context() as patch:
            whole = Link.write

            def spoilt(self, memory, words, word_bytes):
                words = bytes([words[0] ^ 1, *words[1:]]) if memory is Memory.WEIGHTS else words
                whole(self, memory, words, word_bytes)

            patch.setattr(Link, "write", spoilt)
            status, out, err = lutra(*arguments("icebreaker", board.port))
        assert (status, out) == (1, "")
        assert err.startswith("lutra: The engine stopped with error VERSION after ")
        assert lutra(*arguments("icebreaker", board.port))[0] == 0


def test_wrong_bits_are_found(simulated, lutra, monkeypatch):
    with simulated("icebreaker") as board, monkeypatch.context() as patch:
        whole = Link.read

        def spoilt(self, count, word_bytes):
            words = whole(self, count, word_bytes)
            return bytes([words[0] ^ 1]) + words[1:]

        patch.setattr(Link, "read", spoilt)
        status, out, err = lutra(*arguments("icebreaker", board.port), "--json")
    assert (status, err) == (1, "")
    assert json.loads(out)["mismatches"] == 1


def test_board_with_another_bitstream(simulated, lutra):
    with simulated("icebreaker") as board:
        status, out, err = lutra(*arguments("ulx3s", board.port))
    assert (status, out) == (2, "")
    assert err.startswith("lutra: The bitstream on the board has hash ")
    assert err.endswith("build and load it again: make fpga BOARD=ulx3s\n")
    assert err.count("\n") == 1
