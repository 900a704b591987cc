import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.formats import QuantizedMatrix
from lutra.gen import PRESETS, Backend, EngineConfig, GeneratedEngine, generate, make_backend
from lutra.gen.cli import main
from lutra.quant import quantize

# As small as an engine gets, so that simulators are quick to build and to run.
MINI = {
    "name": "mini",
    "stream.lanes": "4",
    "stream.width": "8",
    "stream.tile_slices": "2",
    "stream.formats": "int4,bitmod3",
    "stream.group_sizes": "16",
    "stream.max_rows": "16",
    "stream.max_columns": "64",
    "core.mu": "2",
    "datapath.act_lanes": "4",
}


@pytest.fixture(scope="session")
def mini() -> EngineConfig:
    return PRESETS["tiny"].replace(MINI)


@pytest.fixture(scope="session")
def mini_file(mini, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("mini") / "mini.toml"
    path.write_text(mini.to_toml())
    return str(path)


@pytest.fixture(scope="session")
def generated() -> Callable[[EngineConfig], GeneratedEngine]:
    """Generate each engine once."""
    return functools.cache(generate)


@pytest.fixture(scope="session")
def backend(mini) -> Callable[[str], Backend]:
    """Make each back end for the mini configuration once."""
    return functools.cache(lambda name: make_backend(name, mini))


@pytest.fixture(scope="session")
def layer() -> QuantizedMatrix:
    weights = np.random.default_rng(1).standard_normal((7, 40))
    return quantize(weights, format="bitmod3", group_size=16)


@dataclass(frozen=True)
class Finished:
    """What a run of the command line left."""

    status: int
    out: str
    err: str


@pytest.fixture
def lutra(monkeypatch, capsys, tmp_path) -> Callable[..., Finished]:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["lutra", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        status = caught.value.code or 0
        assert isinstance(status, int)
        return Finished(status, captured.out, captured.err)

    return run


@pytest.fixture
def refused(lutra, tmp_path) -> Callable[..., str]:
    """Run what must be refused; return the sentence, having checked everything else."""

    def run(*arguments: object, status: int = 2) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        done = lutra(*arguments)
        assert done.status == status, done
        assert done.out == ""
        assert done.err.startswith("lutra: ")
        assert done.err.endswith("\n")
        assert done.err.count("\n") == 1, done.err
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return done.err.removeprefix("lutra: ").removesuffix("\n")

    return run


@pytest.fixture
def checkpoint(tmp_path):
    """Write a small float checkpoint; tensors may be added or replaced."""

    def write(name="model.safetensors", **tensors):
        rng = np.random.default_rng(2)
        kept = {
            "a.weight": rng.standard_normal((7, 40)).astype(np.float32),
            "b.weight": rng.standard_normal((5, 64)).astype(np.float16),
            "norm.weight": np.ones(40, np.float32),
        }
        save_file(kept | tensors, tmp_path / name)
        return tmp_path / name

    return write
