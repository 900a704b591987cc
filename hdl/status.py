"""What an engine tells its host."""

from amaranth.lib import data, enum

__all__ = ["Error", "Status"]


class Error(enum.Enum, shape=3):
    """Why an engine stopped. It discards its inputs until it is cleared or reset."""

    NONE = 0
    VERSION = 1
    """No layer or tile header where one was due, or one of another version or with flags."""
    FORMAT = 2
    """The stream was packed for another layout, or a record names no format or a scale too far."""
    SIZE = 3
    """N or K is zero or over the engine's limit, or the header's numbers disagree."""
    LENGTH = 4
    """A stream is longer or shorter than its header says, or than the other stream needs; or a span
    is so long that lanes wait for each other."""
    CRC = 5
    """A checksum differs."""
    NONFINITE = 6
    """An activation is not finite and the output type has no NaN."""


class Status(data.StructLayout):
    """Layout of an engine's status.

    ``error`` sticks until cleared; so does ``nonfinite``, set when a token with an infinity or NaN
    was computed. ``busy`` is set while anything received has not been answered; after an error,
    while outputs of earlier layers are still to come.
    """

    def __init__(self) -> None:
        super().__init__({"error": Error, "nonfinite": 1, "busy": 1})
