"""The one error for files that are not what they should be."""

__all__ = ["FileError"]


class FileError(ValueError):
    """A file cannot be read or written; the message is one sentence for the user."""
