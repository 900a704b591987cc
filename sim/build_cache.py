"""Files that take long to build: built once, found again, whole or not there at all."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .verilator import ToolError

__all__ = ["cache_folder", "cached_file"]


def cache_folder() -> Path:
    """Return the folder for compiled engines, under the user's cache folder.

    Raises
    ------
    :exc:`ToolError`
        If this user has no home and names no folder.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "lutra"
    except RuntimeError:
        raise ToolError(
            "There is no home folder to keep compiled engines in; set XDG_CACHE_HOME to a folder"
        ) from None


def cached_file(
    name: str, parts: Iterable[str], build: Callable[[Path], object], *, cache: Path
) -> Path:
    """Return a file of the cache; build it unless it is there and undamaged.

    Whoever else wants the same file at the same time waits for the first to build it.

    Parameters
    ----------
    name : str
        The file's name.
    parts : iterable of str
        Everything that the file depends on.
    build : callable
        Makes the file, by its name, in the folder that it is given.
    cache : Path
        Folder of the cache.

    Raises
    ------
    :exc:`ToolError`
        If the cache cannot be written, or ``build`` raises it.
    """
    digest = hashlib.sha256("\0".join((name, *parts)).encode()).hexdigest()[:32]
    file = cache / digest / name
    if _is_whole(file):
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _turn(file.parent):
            if not _is_whole(file):
                _build(file, build)
    except OSError as error:
        raise ToolError(
            f"Compiled engines cannot be kept in {cache}: {error.strerror or error}; "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return file


def _build(file: Path, build: Callable[[Path], object]) -> None:
    for left_behind in file.parent.glob("build-*"):  # by a process that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="build-", dir=file.parent))
    try:
        build(folder)
        made = folder / file.name
        _seal(made).write_text(_digest(made))
        made.replace(file)
        _seal(made).replace(_seal(file))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_whole(file: Path) -> bool:
    """Whether a file is what was built: a damaged library would take the process with it."""
    try:
        return _seal(file).read_text() == _digest(file)
    except OSError:
        return False


def _seal(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder; the system ends the turn of one that dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network folders have no locks, and do without
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
