"""Output files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from ..quant import FileError

__all__ = ["write_files"]


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write files into a folder, which is made if need be.

    All of them are written beside their places first and renamed when the last one is complete, so
    that an error on the way leaves what was there before.

    Parameters
    ----------
    folder : Path
        Where to.
    contents : mapping of str to str or bytes
        Text, or bytes, by file name.

    Returns
    -------
    list of Path
        The files, in the same order.

    Raises
    ------
    FileError
        If they cannot be written; nothing is left behind.
    """
    beside = {name: folder / f".{name}.{os.getpid()}.partial" for name in contents}
    made: list[Path] = []
    try:
        if folder.exists() and not folder.is_dir():
            raise FileError(f"Cannot write into {folder}: it is no folder")
        made += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, contents, beside)
    except BaseException as error:
        with contextlib.suppress(OSError):
            for path in beside.values():
                path.unlink(missing_ok=True)
            for path in made:
                path.rmdir()
        if isinstance(error, OSError):
            where = error.filename or folder
            raise FileError(f"Cannot write {where}: {error.strerror or error}") from error
        raise
    return [folder / name for name in contents]


def _write(folder: Path, contents: Mapping[str, str | bytes], beside: Mapping[str, Path]) -> None:
    for name in contents:
        if (folder / name).is_dir():
            raise FileError(f"Cannot write {folder / name}: it is a folder")
    for name, content in contents.items():
        if isinstance(content, bytes):
            beside[name].write_bytes(content)
        else:
            beside[name].write_text(content, encoding="utf-8")
    for name, path in beside.items():
        path.replace(folder / name)
