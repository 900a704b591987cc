"""What goes wrong between a user and a board, each in one sentence."""

import os
import pty
import sys
import tty

import pytest

from lutra.gen.cli import main


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run what must be refused; return the sentence."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lutra", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        assert caught.value.code == 2
        assert out == ""
        assert err.startswith("lutra: ")
        assert err.count("\n") == 1
        return err.removeprefix("lutra: ").removesuffix("\n")

    return run


RUN = ("board", "run", "--shape", "8x32", "--format", "bcq1", "--group-size", "32")


@pytest.mark.parametrize(
    "arguments",
    [
        ("board", "build", "nexys"),
        ("board", "simulate", "--board", "nexys"),
        (*RUN, "--board", "nexys", "--port", "/dev/null"),
    ],
)
def test_unknown_board(refused, arguments):
    sentence = "Unknown board 'nexys'; known boards: icebreaker, tangnano20k, ulx3s"
    assert refused(*arguments) == sentence


def test_no_such_port(refused):
    sentence = refused(*RUN, "--board", "icebreaker", "--port", "/dev/ttyNONE")
    assert "/dev/ttyNONE cannot be opened" in sentence
    assert "serial ports here: " in sentence


@pytest.mark.parametrize("timeout", ["nan", "inf"])
def test_timeout_without_end(refused, timeout):
    sentence = refused(*RUN, "--board", "icebreaker", "--port", "/dev/null", "--timeout", timeout)
    assert f"{timeout} is not a number of seconds" in sentence


def test_no_pyserial(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    sentence = refused(*RUN, "--board", "icebreaker", "--port", "/dev/ttyNONE")
    assert sentence == "pyserial was not found; install it with: pip install 'lutra[fpga]'"


def test_no_answer(refused):
    near, far = pty.openpty()
    tty.setraw(far)
    try:
        name = os.ttyname(far)
        sentence = refused(*RUN, "--board", "icebreaker", "--port", name, "--timeout", "0.3")
    finally:
        os.close(near)
        os.close(far)
    assert sentence == (
        f"No answer on {name} within 0.3 s; is this the board's port, and is its bitstream loaded?"
    )


def test_layer_that_the_engine_was_not_made_for(refused):
    sentence = refused(
        *("board", "run", "--shape", "8x32", "--format", "int4", "--group-size", "32"),
        *("--board", "icebreaker", "--port", "/dev/null"),
    )
    assert "int4" in sentence


def test_layer_that_is_too_large(refused):
    sentence = refused(
        *("board", "run", "--shape", "256x512", "--format", "int4", "--group-size", "128"),
        *("--board", "tangnano20k", "--port", "/dev/null"),
    )
    assert sentence == (
        "The layer's weights take 72,796 bytes, 40,028 more than the 32,768 of 'tangnano20k'; "
        "run a smaller layer"
    )
