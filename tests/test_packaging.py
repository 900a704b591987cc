"""The lists in pyproject.toml against the folders on disk."""

import importlib.metadata
import os
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
PACKAGES = sorted(SETUPTOOLS["packages"])

# Folders at the top that are not installed.
OUTSIDE = {"bench", "build", "docs", "examples", "tests"}


def folder_of(package):
    """Folder of a package by its name: lutra.a.b is a/b."""
    return Path(*package.split(".")[1:])


def package_folders():
    """Folders with an ``__init__.py``, relative to the root, at any depth."""
    for top in sorted(ROOT.iterdir()):
        if not top.is_dir() or top.name.startswith(".") or top.name in OUTSIDE:
            continue
        for folder, _, files in os.walk(top):
            if "__init__.py" in files:
                yield Path(folder).relative_to(ROOT)


def test_every_package_is_listed():
    listed = [folder_of(package) for package in PACKAGES]
    assert sorted(package_folders()) == sorted(listed)
    assert all(package.startswith("lutra.") for package in PACKAGES)


def test_package_folders_are_mapped():
    mapping = SETUPTOOLS["package-dir"]
    assert mapping == {package: folder_of(package).as_posix() for package in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package):
    assert (ROOT / folder_of(package) / "py.typed").is_file()


def test_type_checkers_see_every_package():
    tops = sorted({folder_of(package).parts[0] for package in PACKAGES})
    links = sorted((ROOT / ".typing" / "lutra").iterdir())
    assert [link.name for link in links] == tops
    for link in links:
        assert str(link.readlink()) == f"../../{link.name}"
        assert link.resolve() == ROOT.resolve() / link.name
    assert set(tops) <= set(PROJECT["tool"]["pyright"]["include"])
    assert ".typing" in PROJECT["tool"]["pyright"]["extraPaths"]


@pytest.mark.parametrize("package", PACKAGES)
def test_data_files_are_installed(package):
    patterns = [*SETUPTOOLS["package-data"]["*"], *SETUPTOOLS["package-data"].get(package, [])]
    folder = ROOT / folder_of(package)
    for path in folder.rglob("*"):
        inner = {parent for parent in path.parents if (parent / "__init__.py").exists()}
        if path.is_file() and path.suffix not in (".py", ".pyc") and max(inner) == folder:
            name = path.relative_to(folder).as_posix()
            assert any(fnmatch(name, pattern) for pattern in patterns), path


def test_console_script_exists():
    assert PROJECT["project"]["scripts"] == {"lutra": "lutra.gen.cli:main"}
    scripts = importlib.metadata.distribution("lutra").entry_points.select(group="console_scripts")
    assert {script.name: script.value for script in scripts} == PROJECT["project"]["scripts"]
    for script in scripts:
        assert callable(script.load())


def test_installed_version_is_the_project_s():
    assert importlib.metadata.version("lutra") == PROJECT["project"]["version"]


def test_root_is_no_package():
    # A folder lutra/ or an __init__.py here would shadow the installed package.
    assert not (ROOT / "lutra").exists()
    assert not (ROOT / "__init__.py").exists()
