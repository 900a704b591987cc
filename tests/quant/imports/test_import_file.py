"""From a quantised checkpoint to a model file: what is written, resumed, counted and kept."""

import contextlib
import json
import tracemalloc

import numpy as np
import pytest

from lutra.quant import ModelFile
from lutra.quant.imports import IMPORTERS, CheckpointSource, import_file
from lutra.quant.imports.gptq import GptqImporter
from lutra.sim.sample_checkpoints import SAMPLES, write_gptq, write_safetensors


def several(folder, count=4, rows=32, columns=96, shard=2):
    """Write a GPTQ checkpoint of several layers in shards."""
    folder.mkdir()
    rng = np.random.default_rng(2)
    for start in range(0, count, shard):
        tensors = {}
        for layer in range(start, min(start + shard, count)):
            words = rng.integers(0, 1 << 32, (columns // 8, rows), dtype=np.uint32)
            zeros = rng.integers(0, 1 << 32, (columns // 32, rows // 8), dtype=np.uint32)
            tensors |= {
                f"l{layer}.qweight": words,
                f"l{layer}.qzeros": zeros,
                f"l{layer}.scales": rng.uniform(0.1, 1, (columns // 32, rows)).astype(np.float16),
            }
        tensors[f"norm{start}.weight"] = np.ones(3, np.float32)
        write_safetensors(folder / f"{start}.safetensors", tensors)
    config = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (folder / "quantize_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", SAMPLES)
def test_the_model_file_has_what_the_checkpoint_has(tmp_path, name):
    sample = SAMPLES[name](tmp_path / "in", np.random.default_rng(3))
    made = import_file(sample.path, tmp_path / "m")
    made.model.verify()
    assert made.importer in IMPORTERS
    assert made.left_out == sample.left_out
    assert made.model.recipe is None
    again = ModelFile(tmp_path / "m")
    assert again.layers == tuple(sample.weights)
    for layer, wanted in sample.weights.items():
        found = again.layer(layer).dequantize()
        assert np.array_equal(found.astype(np.float32), wanted)


def test_patterns_and_progress(tmp_path):
    several(tmp_path / "in")
    seen = []
    made = import_file(
        tmp_path / "in",
        tmp_path / "m",
        "gptq",
        patterns=["l1", "l[23]"],
        progress=lambda *call: seen.append(call),
    )
    assert made.model.layers == ("l1", "l2", "l3")
    assert made.left_out == ("norm0.weight", "norm2.weight")
    size = 32 * 96
    assert seen == [
        ("l1", 0, 3 * size),
        ("l2", size, 3 * size),
        ("l3", 2 * size, 3 * size),
        ("l3", 3 * size, 3 * size),
    ]
    with pytest.raises(ValueError, match=r"^Pattern 'x\*' matches no quantised layer of .* l0, l1"):
        import_file(tmp_path / "in", tmp_path / "m", patterns=["x*"])


def test_an_interrupted_import_is_gone_on_with(tmp_path, monkeypatch):
    several(tmp_path / "in")
    import_file(tmp_path / "in", tmp_path / "m")
    wanted = (tmp_path / "m").read_bytes()
    (tmp_path / "m").unlink()
    read, seen = GptqImporter.read_layer, []

    def count(self, layer):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(layer)
        return read(self, layer)

    monkeypatch.setattr(GptqImporter, "read_layer", count)
    with contextlib.suppress(KeyboardInterrupt):
        import_file(tmp_path / "in", tmp_path / "m")
    assert not (tmp_path / "m").exists()
    seen.pop(0)  # so that it gets one layer further
    with contextlib.suppress(KeyboardInterrupt):
        import_file(tmp_path / "in", tmp_path / "m")
    assert seen == ["l1", "l2"]
    monkeypatch.setattr(GptqImporter, "read_layer", read)
    import_file(tmp_path / "in", tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m"]


def test_another_checkpoint_begins_anew(tmp_path, monkeypatch):
    several(tmp_path / "in")
    read = GptqImporter.read_layer

    def fail(self, layer):
        if layer == "l2":
            raise KeyboardInterrupt
        return read(self, layer)

    monkeypatch.setattr(GptqImporter, "read_layer", fail)
    with contextlib.suppress(KeyboardInterrupt):
        import_file(tmp_path / "in", tmp_path / "m")
    monkeypatch.setattr(GptqImporter, "read_layer", read)
    config = {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2", "group_size": 32}
    (tmp_path / "in" / "quantize_config.json").write_text(json.dumps(config))
    found = import_file(tmp_path / "in", tmp_path / "m").model.layer("l0")
    alone = GptqImporter(CheckpointSource(tmp_path / "in")).read("l0")
    assert np.array_equal(found.zeros, alone.zeros)


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path):
    peaks = []
    for count in (2, 8):
        several(tmp_path / str(count), count, rows=1024, columns=1024, shard=4)
        tracemalloc.start()
        import_file(tmp_path / str(count), tmp_path / "m")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 10 * 1024 * 1024  # ten bytes a weight of one layer
    assert peaks[1] < 1.1 * peaks[0]


def test_a_checkpoint_without_layers(tmp_path):
    sample = write_gptq(tmp_path, np.random.default_rng(1))
    write_safetensors(tmp_path / "model.safetensors", {"a.weight": np.ones((2, 2), np.float16)})
    with pytest.raises(ValueError, match=r"has no quantised layer of gptq$"):
        import_file(sample.path, tmp_path / "m")


def test_a_checkpoint_of_floats(tmp_path):
    write_safetensors(tmp_path / "c", {"a.weight": np.ones((2, 2), np.float16)})
    with pytest.raises(ValueError, match="is not quantised in a format that Lutra imports: gptq"):
        import_file(tmp_path / "c", tmp_path / "m")
