"""Damaged checkpoints: a short run of the fuzzer, and that it finds what it is for."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lutra.quant.imports import gptq
from lutra.sim.more_sample_checkpoints import ALL_SAMPLES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "bench" / "fuzz_imports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_damaged_checkpoints_end_with_a_sentence(fuzz, tmp_path):
    # Time is not looked at here: other tests run beside this one.
    outcomes = [
        outcome.partition(" s, ")[2] if outcome.startswith("slow") else outcome
        for _, outcome in fuzz.run(2000, 11, list(ALL_SAMPLES), tmp_path)
    ]
    assert set(outcomes) == {"read", "refused"}
    assert outcomes.count("read") > 100


@pytest.mark.parametrize("name", ALL_SAMPLES)
def test_samples_are_read_as_they_are(fuzz, tmp_path, name):
    files = fuzz.files_of(name, tmp_path / "a")
    for path, content in files.items():
        (tmp_path / path).write_bytes(content)
    assert fuzz.outcome_of(tmp_path / fuzz.entry_of(files)) == "read"


def test_faults_are_found(fuzz, tmp_path, monkeypatch):
    def lying(*arguments):
        return np.zeros(1 << 40, dtype=np.uint8)

    monkeypatch.setattr(gptq, "unpack_stream", lying)
    outcomes = [outcome for _, outcome in fuzz.run(20, 1, ["gptq"], tmp_path)]
    assert any(outcome.startswith("fault: ") for outcome in outcomes)
