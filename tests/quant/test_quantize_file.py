import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.quant import FileError, ModelFile, Recipe, quantize, quantize_file

RECIPE = Recipe(format="bitmod4", group_size=32)


def checkpoint(path, **extra):
    rng = np.random.default_rng(2)
    tensors = {
        "a.weight": rng.standard_normal((6, 70)).astype(np.float32),
        "b.weight": rng.standard_normal((4, 33)).astype(np.float16),
        "b.bias": rng.standard_normal(4).astype(np.float16),
        "c.weight": rng.standard_normal((5, 64)).astype(ml_dtypes.bfloat16),
        "norm.weight": np.ones(70, np.float32),
        **extra,
    }
    save_file(tensors, path)
    return tensors


def test_every_layer_is_quantised_as_it_would_be_alone(tmp_path):
    tensors = checkpoint(tmp_path / "c.safetensors")
    seen = []
    file = quantize_file(
        tmp_path / "c.safetensors",
        tmp_path / "m.safetensors",
        RECIPE,
        progress=lambda *call: seen.append(call),
    )
    assert sorted(file.layers) == ["a", "b", "c"]
    assert file.recipe == RECIPE
    file.verify()
    for name in file.layers:
        bias = tensors.get(f"{name}.bias")
        weights = tensors[f"{name}.weight"].astype(np.float32)
        wanted = quantize(weights, format="bitmod4", group_size=32)
        back = file.layer(name)
        assert np.array_equal(back.codes, wanted.codes)
        assert np.array_equal(back.dequantize(), wanted.dequantize())
        if bias is None:
            assert back.bias is None
        else:
            assert back.bias is not None
            assert np.array_equal(back.bias, bias.astype(np.float32))
    sizes = {"a": 420, "b": 132, "c": 320}
    total, done = sum(sizes.values()), 0
    for name, call in zip(file.layers, seen, strict=False):
        assert call == (name, done, total)
        done += sizes[name]
    assert seen[-1] == (file.layers[-1], total, total)
    assert len(seen) == 4


def test_patterns_choose(tmp_path):
    checkpoint(tmp_path / "c.safetensors")
    file = quantize_file(
        tmp_path / "c.safetensors", tmp_path / "m.safetensors", RECIPE, patterns=["b", "c.*"]
    )
    assert sorted(file.layers) == ["b", "c"]


@pytest.mark.parametrize(
    ("extra", "patterns", "sentence"),
    [
        ({"c.weight": np.full((2, 2), np.nan, np.float32)}, None, r"^Layer 'c': .*\[0, 0\] is NaN"),
        ({"c.weight": np.full((2, 2), np.inf, np.float16)}, None, r"^Layer 'c': .* is infinite"),
        ({"c.bias": np.full(5, np.nan, np.float32)}, None, r"^Layer 'c': Bias .*\[0\] is NaN"),
        ({"c.bias": np.ones((5, 1), np.float32)}, None, r"'c\.bias' must have shape \(5,\)"),
        ({"c.weight": np.ones((2, 0), np.float32)}, None, r"^Layer 'c': .*rows and columns"),
        ({}, ["x.*"], "matches no tensor"),
        ({}, ["norm"], "must be two-dimensional"),
    ],
)
def test_nothing_is_left_behind(tmp_path, extra, patterns, sentence):
    checkpoint(tmp_path / "c.safetensors", **extra)
    with pytest.raises(ValueError, match=sentence) as caught:
        quantize_file(
            tmp_path / "c.safetensors", tmp_path / "m.safetensors", RECIPE, patterns=patterns
        )
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_checkpoint_is_not_overwritten(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint(path)
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    for target in (path, tmp_path / "link"):
        with pytest.raises(FileError, match="must not replace its checkpoint"):
            quantize_file(path, target, RECIPE)
    assert path.read_bytes() == before


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path):
    rng = np.random.default_rng(2)
    largest = 1024 * 1024 * 4  # bytes of one tensor as float32
    peaks = []
    for count in (2, 10):
        tensors = {
            f"l{n}.weight": rng.standard_normal((1024, 1024), dtype=np.float32)
            for n in range(count)
        }
        save_file(tensors, tmp_path / "c.safetensors")
        del tensors
        tracemalloc.start()
        quantize_file(tmp_path / "c.safetensors", tmp_path / "m.safetensors", RECIPE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Besides the layer, each core works on a block of a fixed size: some megabytes.
    assert max(peaks) < 6 * largest, f"{max(peaks) / largest:.1f} times the largest tensor"
    assert peaks[1] < 1.3 * peaks[0] + largest


def test_opened_file_is_the_one_on_disk(tmp_path):
    checkpoint(tmp_path / "c.safetensors")
    file = quantize_file(tmp_path / "c.safetensors", tmp_path / "m.safetensors", RECIPE)
    assert file.path == tmp_path / "m.safetensors"
    assert ModelFile(file.path).layers == file.layers
