"""The host link to the bit: what both ends of it are built from; ``docs/boards.md`` is its page."""

import enum
import struct
import zlib

__all__ = [
    "CRC_BYTES",
    "ESCAPE",
    "FLAG",
    "HASH_BYTES",
    "INVERT",
    "LINK_VERSION",
    "MAGIC",
    "MAX_FRAME",
    "REPLY",
    "Code",
    "FrameReader",
    "Memory",
    "Request",
    "encode_frame",
]

LINK_VERSION = 1
MAGIC = b"LUTR"
HASH_BYTES = 8

FLAG = 0x7E  # begins and ends a frame
ESCAPE = 0x7D  # the next byte was inverted in part
INVERT = 0x20  # that part
CRC_BYTES = 4
MAX_FRAME = 512  # bytes between flags, checksum included, before any are escaped
REPLY = 0x80  # set in the kind of every reply


class Request(enum.IntEnum):
    """What a host asks for: the second byte of a frame."""

    HELLO = 0
    WRITE = 1
    READ = 2
    RUN = 3
    STATUS = 4
    CLEAR = 5


class Code(enum.IntEnum):
    """How a board answers: the third byte of a reply."""

    DONE = 0
    BUSY = 1
    """The engine is running."""
    REFUSED = 2
    """No such request, or its length or an address is wrong."""


class Memory(enum.IntEnum):
    """What a WRITE fills."""

    WEIGHTS = 0
    ACTIVATIONS = 1


def encode_frame(body: bytes) -> bytes:
    """Put a body between flags, with its checksum, and escape what could be taken for a flag."""
    whole = body + struct.pack("<I", zlib.crc32(body))
    escaped = bytearray()
    for byte in whole:
        escaped += bytes([ESCAPE, byte ^ INVERT]) if byte in (FLAG, ESCAPE) else bytes([byte])
    return bytes([FLAG, *escaped, FLAG])


class FrameReader:
    """Finds the bodies of undamaged frames in bytes as they come, and counts damaged ones."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._inside = self._escaped = False
        self.damaged = 0

    def feed(self, received: bytes) -> list[bytes]:
        """Take more bytes; return the bodies that they complete."""
        bodies = []
        for byte in received:
            if byte == FLAG:
                if self._bytes or self._escaped:
                    body = self._body()
                    self.damaged += body is None
                    bodies += [] if body is None else [body]
                self._bytes.clear()
                self._inside, self._escaped = True, False
            elif byte == ESCAPE:
                self._escaped = True
            elif self._inside:
                self._bytes.append(byte ^ INVERT if self._escaped else byte)
                self._escaped = False
        return bodies

    def _body(self) -> bytes | None:
        """Return the body of a whole frame, or None if it is damaged."""
        body, crc = bytes(self._bytes[:-CRC_BYTES]), bytes(self._bytes[-CRC_BYTES:])
        whole = not self._escaped and len(self._bytes) <= MAX_FRAME and len(body) > 1
        return body if whole and crc == struct.pack("<I", zlib.crc32(body)) else None
