"""Output files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_files"]


def write_files(folder: Path, contents: Mapping[str, str]) -> list[Path]:
    """Write text files into a folder, which is made if need be.

    All of them are written beside their places first and renamed when the last one is complete, so
    that an error on the way leaves what was there before.

    Parameters
    ----------
    folder : Path
        Where to.
    contents : mapping of str to str
        Text by file name.

    Returns
    -------
    list of Path
        The files, in the same order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs: list[tuple[str, Path]] = []
    try:
        for name, text in contents.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            pairs.append((temporary, folder / name))
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
        for temporary, target in pairs:
            Path(temporary).replace(target)
    except BaseException:
        for temporary, _ in pairs:
            Path(temporary).unlink(missing_ok=True)
        raise
    return [target for _, target in pairs]
