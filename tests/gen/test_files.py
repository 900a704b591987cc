import os
import stat
from pathlib import Path

import pytest

from lutra.gen.files import write_files
from lutra.quant import FileError


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_folders_are_made(tmp_path):
    files = write_files(tmp_path / "a" / "b", {"x.v": "ö\n", "y.json": ""})
    assert files == [tmp_path / "a" / "b" / "x.v", tmp_path / "a" / "b" / "y.json"]
    assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/x.v": "ö\n", "a/b/y.json": ""}


def test_files_are_replaced_and_others_left_alone(tmp_path):
    (tmp_path / "x").write_text("old")
    (tmp_path / "z").write_text("other")
    write_files(tmp_path, {"x": "new"})
    assert tree(tmp_path) == {"x": "new", "z": "other"}


def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        (path,) = write_files(tmp_path, {"x": ""})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("step", ["write_text", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch, step, error):
    (tmp_path / "x").write_text("old")
    before = tree(tmp_path)
    real, calls = getattr(Path, step), []

    def fail_the_second_time(path, *arguments, **options):
        calls.append(path)
        if len(calls) == 2 or step == "replace":
            raise error
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, step, fail_the_second_time)
    wanted = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else FileError
    for folder in (tmp_path, tmp_path / "new" / "folder"):
        calls.clear()
        with pytest.raises(wanted) as caught:
            write_files(folder, {"x": "new", "y": "new"})
        assert tree(tmp_path) == before
        if wanted is FileError:
            assert str(caught.value) == f"Cannot write {folder}: No space left on device"


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "x").write_text("old")
    (tmp_path / "y").mkdir()
    before = tmp_path.stat().st_mtime_ns
    with pytest.raises(FileError, match=r"^Cannot write .*/y: it is a folder$"):
        write_files(tmp_path, {"x": "new", "y": "new"})
    assert tree(tmp_path) == {"x": "old", "y": None}
    assert tmp_path.stat().st_mtime_ns == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(FileError, match=r"^Cannot write into .*/x: it is no folder$"):
        write_files(tmp_path / "x", {"y": ""})
    with pytest.raises(FileError, match=r"^Cannot write .*/x/y: Not a directory$"):
        write_files(tmp_path / "x" / "y", {"z": ""})
    assert tree(tmp_path) == {"x": "old"}
