"""Text to train and to judge the model on: the standard library of the running Python.

Every machine that can run the example has the text already, so nothing is downloaded. It differs
a little from one Python version to the next, and figures measured on it do as well.
"""

import sysconfig
from pathlib import Path

__all__ = ["HELD_OUT_MODULES", "PACKAGES", "held_out_text", "training_text"]

HELD_OUT_MODULES = (
    "argparse.py",
    "csv.py",
    "fractions.py",
    "glob.py",
    "heapq.py",
    "sched.py",
    "shlex.py",
    "statistics.py",
    "tempfile.py",
    "textwrap.py",
)
"""Top-level modules that are never trained on."""

PACKAGES = (
    "asyncio",
    "collections",
    "concurrent",
    "ctypes",
    "email",
    "http",
    "importlib",
    "json",
    "logging",
    "multiprocessing",
    "re",
    "sqlite3",
    "tomllib",
    "unittest",
    "urllib",
    "wsgiref",
    "xml",
    "xmlrpc",
    "zoneinfo",
)
"""Packages that are trained on, next to the top-level modules."""

# Some Python distributions move the tests of a package elsewhere; left out, they cannot matter.
_TEST_FOLDERS = frozenset({"test", "tests"})

# Generated when Python was built, or added by whoever installed it: another text on each machine.
_LOCAL_PREFIXES = ("_sysconfigdata", "sitecustomize", "usercustomize")


def training_text() -> bytes:
    """Text to train on: all files of the selection but the held-out modules, sorted by path.

    Returns
    -------
    :class:`bytes`
        Bytes 0 to 127 only; about 7 million of them.
    """
    root = _root()
    files = [path for path in _top_level(root) if path.name not in HELD_OUT_MODULES]
    for package in PACKAGES:
        files += _modules_of(root / package)
    return _joined(files)


def held_out_text() -> bytes:
    """Text to judge the model on: the modules of :data:`HELD_OUT_MODULES`, sorted by name.

    Returns
    -------
    :class:`bytes`
        Bytes 0 to 127 only; about 300 thousand of them.
    """
    return _joined([path for path in _top_level(_root()) if path.name in HELD_OUT_MODULES])


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _top_level(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("*.py")) if not path.name.startswith(_LOCAL_PREFIXES)]


def _modules_of(package: Path) -> list[Path]:
    files = sorted(package.rglob("*.py"))
    return [path for path in files if _TEST_FOLDERS.isdisjoint(path.relative_to(package).parts)]


def _joined(files: list[Path]) -> bytes:
    return b"\n".join(_ascii(path.read_bytes()) for path in files)


def _ascii(text: bytes) -> bytes:
    # Dropped, not replaced: a stand-in character would be one more thing for the model to learn.
    unix_text = text.replace(b"\r\n", b"\n")
    return unix_text.translate(None, delete=bytes(range(128, 256)))
