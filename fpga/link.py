"""The host's end of the link: requests that are asked until they are answered, and done once."""

import contextlib
import random
import struct
import termios
import time
from typing import TYPE_CHECKING

from .protocol import (
    CRC_BYTES,
    HASH_BYTES,
    LINK_VERSION,
    MAGIC,
    MAX_FRAME,
    REPLY,
    Code,
    FrameReader,
    Memory,
    Request,
    encode_frame,
)
from .run_status import RunStatus

if TYPE_CHECKING:
    from serial import Serial

__all__ = ["Link", "LinkError"]

_REPLY_HEAD = 3  # sequence number, kind, code
_WRITE_HEAD = 6  # sequence number, kind, memory, address

_STATUS = struct.Struct("<BBIHBB")


class LinkError(RuntimeError):
    """A board does not answer, or not as it should."""


class Link:
    """Talks to one board.

    A request is sent again whenever no undamaged answer to it has come for a while; the sequence
    number keeps the board from doing it twice.

    Parameters
    ----------
    port : Serial
        An open port whose reads give up after some milliseconds.
    timeout : float
        Seconds after which a request without an answer fails.
    patience : float, optional
        Seconds after which it is sent again; by default a tenth of the timeout.

    Attributes
    ----------
    repeats : int
        Requests that were sent again.
    """

    def __init__(self, port: "Serial", *, timeout: float, patience: float | None = None) -> None:
        self._port, self._timeout = port, timeout
        self._patience = timeout / 10 if patience is None else patience
        self._reader = FrameReader()
        # Not always the same, or an answer that an earlier program left behind could be taken.
        self._sequence = random.SystemRandom().randrange(256)
        self.repeats = 0

    def hello(self) -> bytes:
        """Begin a conversation; return the hash of the board's configuration.

        Raises
        ------
        :exc:`LinkError`
            If no board answers, or one of another kind or version.
        """
        with contextlib.suppress(OSError, termios.error):  # of a port that has gone
            self._port.reset_input_buffer()
        answer = self._ask(Request.HELLO)
        wanted = MAGIC + bytes([LINK_VERSION])
        if not answer.startswith(wanted) or len(answer) != len(wanted) + HASH_BYTES:
            raise LinkError(
                f"What answers on {self._port.name} is no board with link version {LINK_VERSION}; "
                "build its bitstream again"
            )
        return answer[len(MAGIC) + 1 :]

    def write(self, memory: Memory, words: bytes, word_bytes: int) -> None:
        """Fill a memory from its first word on.

        Raises
        ------
        :exc:`LinkError`
            If the board does not answer, or refuses.
        """
        count = (MAX_FRAME - CRC_BYTES - _WRITE_HEAD) // word_bytes * word_bytes
        for position in range(0, len(words), count):
            address = position // word_bytes
            head = bytes([memory]) + address.to_bytes(3, "little")
            self._ask(Request.WRITE, head + words[position : position + count])

    def read(self, count: int, word_bytes: int) -> bytes:
        """Return the first ``count`` words of the outputs.

        Raises
        ------
        :exc:`LinkError`
            If the board does not answer, or refuses.
        """
        most = min((MAX_FRAME - CRC_BYTES - _REPLY_HEAD) // word_bytes, 255)
        parts = []
        for first in range(0, count, most):
            some = min(most, count - first)
            part = self._ask(Request.READ, first.to_bytes(3, "little") + bytes([some]))
            if len(part) != some * word_bytes:
                raise LinkError(f"{len(part)} bytes came where {some * word_bytes} were asked for")
            parts.append(part)
        return b"".join(parts)

    def run(self, *, words: int, passes: int, beats: int, expected: int) -> RunStatus:
        """Run a layer that is in the memories, and wait for its end.

        Parameters
        ----------
        words, passes, beats : int
            Words of the layer, its passes, beats of a vector.
        expected : int
            Output beats that the engine owes; as long as more of them come, there is no timeout.

        Raises
        ------
        :exc:`LinkError`
            If the board does not answer, refuses, or the engine stands still.
        """
        self._ask(Request.RUN, struct.pack("<I", words)[:3] + struct.pack("<BH", passes, beats))
        seen, since = -1, time.monotonic()
        while True:
            status = self.status()
            if not status.running:
                return status
            if status.outputs != seen:
                seen, since = status.outputs, time.monotonic()
            if time.monotonic() - since > self._timeout:
                self.clear()
                raise LinkError(
                    f"The engine stands still after {status.outputs} of {expected} output beats"
                )

    def clear(self) -> None:
        """Give up whatever runs, and clear the engine.

        Raises
        ------
        :exc:`LinkError`
            If the board does not answer.
        """
        self._ask(Request.CLEAR)

    def status(self) -> RunStatus:
        """Ask how far the engine is.

        Raises
        ------
        :exc:`LinkError`
            If the board does not answer, or not as this link's boards do.
        """
        answer = self._ask(Request.STATUS)
        if len(answer) != _STATUS.size:
            raise LinkError(
                f"The board's status has {len(answer)} bytes instead of {_STATUS.size}; "
                "build its bitstream again"
            )
        running, word, cycles, low, high, damaged = _STATUS.unpack(answer)
        return RunStatus(bool(running), word, cycles, low | high << 16, damaged)

    def _ask(self, request: Request, arguments: bytes = b"") -> bytes:
        """Send a request until its answer comes; return what that holds."""
        self._sequence = (self._sequence + 1) % 256
        frame = encode_frame(bytes([self._sequence, request]) + arguments)
        head = bytes([self._sequence, request | REPLY])
        end = time.monotonic() + self._timeout
        while True:
            self._port.write(frame)
            again = min(time.monotonic() + self._patience, end)
            while time.monotonic() < again:
                for body in self._reader.feed(self._port.read(self._port.in_waiting or 1)):
                    if body[:2] == head and len(body) >= _REPLY_HEAD:
                        return self._checked(request, body)
            if time.monotonic() >= end:
                raise LinkError(
                    f"No answer on {self._port.name} within {self._timeout:g} s; "
                    "is this the board's port, and is its bitstream loaded?"
                )
            self.repeats += 1

    def _checked(self, request: Request, body: bytes) -> bytes:
        code = body[2]
        if code == Code.DONE:
            return body[_REPLY_HEAD:]
        why = "is busy with a run" if code == Code.BUSY else "does not take its arguments"
        raise LinkError(f"The board refused {request.name}: it {why}")
