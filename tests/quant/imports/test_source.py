"""Files and folders, shards and configurations."""

import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from lutra.quant import Checkpoint, FileError, Recipe, quantize_file
from lutra.quant.imports import CheckpointSource
from lutra.sim.sample_checkpoints import write_safetensors

TENSORS = {
    "a": np.arange(6, dtype=np.float64).reshape(2, 3),
    "b": np.arange(4, dtype=np.float16),
    "c": np.array([1, -2.5], ml_dtypes.bfloat16),
    "d": np.array([[1, -2]], np.int64),
    "e": np.array([-1], np.int8),
    "f": np.array([1.5, 448], ml_dtypes.float8_e4m3fn),
}


def shards(folder, index=None):
    """Write two shards; the index is of both unless another is given."""
    names = list(TENSORS)
    write_safetensors(folder / "one.safetensors", {name: TENSORS[name] for name in names[:2]})
    write_safetensors(folder / "two.safetensors", {name: TENSORS[name] for name in names[2:]})
    if index is None:
        index = dict.fromkeys(names[:2], "one.safetensors")
        index |= dict.fromkeys(names[2:], "two.safetensors")
    text = json.dumps({"weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text)


def test_tensors_of_a_file(tmp_path):
    write_safetensors(tmp_path / "m.safetensors", TENSORS)
    source = CheckpointSource(tmp_path / "m.safetensors")
    assert not source.is_folder
    assert source.tensor_names == tuple(TENSORS)
    for name, array in TENSORS.items():
        assert source.entry(name).shape == array.shape
        found = source.read(name)
        bits = {"c": np.uint16, "f": np.uint8}.get(name)
        assert np.array_equal(found, array if bits is None else array.view(bits))
    assert np.array_equal(source.read("a", slice(1, 2)), TENSORS["a"][1:])
    assert np.array_equal(source.floats("c"), np.array([1, -2.5], np.float32))
    assert source.floats("a").dtype == np.float32
    with pytest.raises(FileError, match=r"must be of floats, F64, F32, F16, BF16, not I64$"):
        source.floats("d")
    with pytest.raises(FileError, match=r"has no tensor 'x'$"):
        source.read("x")


def test_doubles_that_are_no_floats(tmp_path):
    write_safetensors(tmp_path / "m", {"a": np.array([1 / 3]), "b": np.array([1e300])})
    source = CheckpointSource(tmp_path / "m")
    for name in "ab":
        with pytest.raises(FileError, match=r"numbers that float32 cannot hold$"):
            source.floats(name)


def test_shards_by_their_index(tmp_path):
    shards(tmp_path)
    write_safetensors(tmp_path / "other.safetensors", {"x": np.zeros(1, np.float32)})
    source = CheckpointSource(tmp_path)
    assert source.tensor_names == tuple(TENSORS)
    assert np.array_equal(source.read("d"), TENSORS["d"])


def test_a_folder_without_an_index(tmp_path):
    shards(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert CheckpointSource(tmp_path).tensor_names == tuple(TENSORS)


def test_an_index_of_another_name(tmp_path):
    shards(tmp_path)
    write_safetensors(tmp_path / "other.safetensors", {"x": np.zeros(1, np.float32)})
    index = tmp_path / "model.safetensors.index.json"
    index.rename(tmp_path / "gptq.safetensors.index.json")
    assert CheckpointSource(tmp_path).tensor_names == tuple(TENSORS)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ({"a": "/etc/passwd"}, "names the shard '/etc/passwd', which is not in the folder"),
        ({"a": "../one.safetensors"}, r"'\.\./one.safetensors', which is not in the folder"),
        ({"a": "x/../../y"}, "which is not in the folder"),
        ({"a": "..\\y"}, "which is not in the folder"),
        ({"a": ""}, "names the shard '', which is not in the folder"),
        ({"a": "three.safetensors"}, "There is no file .*three.safetensors$"),
        ({"d": "one.safetensors"}, "has tensor 'd' in .*one.safetensors, which lacks it$"),
        ({"x": "one.safetensors"}, "has tensor 'x' in .*one.safetensors, which lacks it$"),
        ({"a": 5}, "must have a 'weight_map' of names of files$"),
        ([1], "must have a 'weight_map' of names of files$"),
    ],
)
def test_an_index_that_lies(tmp_path, index, sentence):
    shards(tmp_path, index)
    with pytest.raises(FileError, match=sentence):
        CheckpointSource(tmp_path).tensor_names  # noqa: B018


def test_a_tensor_in_two_shards(tmp_path):
    shards(tmp_path)
    write_safetensors(tmp_path / "two.safetensors", TENSORS)
    with pytest.raises(FileError, match=r"^Tensor 'a' is both in .*one\.\w+ and in .*two"):
        CheckpointSource(tmp_path).tensor_names  # noqa: B018


def test_configurations_are_merged(tmp_path):
    first = {"bits": 4, "damp": 0.1, "desc_act": True}
    (tmp_path / "quantize_config.json").write_text(json.dumps(first))
    second = {"quantization_config": {"bits": 4, "damp": 0.2}, "hidden_size": 1}
    (tmp_path / "config.json").write_text(json.dumps(second))
    third = {"producer": {}, "quantization": {"quant_algo": "X"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(third))
    merged = {"bits": 4, "damp": 0.2, "desc_act": True, "quant_algo": "X"}
    assert CheckpointSource(tmp_path).config == merged
    write_safetensors(tmp_path / "m", TENSORS)
    assert CheckpointSource(tmp_path / "m").config == merged


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"quantization_config": {"bits": 3}}', "contradict each other: bits is 4, and 3 in"),
        ('{"quantization_config": 3}', "must be a JSON object$"),
        ("[]", "must be a JSON object$"),
        ("{", "is not JSON$"),
        ("[" * 100_000, "is not JSON$"),
        ('{"quantization_config": ' + "9" * 5000 + "}", "is not JSON$"),
        (b"\xff\xfe{", "is not JSON$"),
    ],
)
def test_configurations_that_are_not_valid(tmp_path, text, sentence):
    (tmp_path / "quantize_config.json").write_text('{"bits": 4}')
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(FileError, match=sentence):
        CheckpointSource(tmp_path).config  # noqa: B018


def test_a_configuration_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 33)  # a hole
    with pytest.raises(FileError, match=r"must have at most 67108864 bytes, not 8589934592$"):
        CheckpointSource(tmp_path).config  # noqa: B018


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
        {"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [1 << 60, 16]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [0, 1 << 50], "data_offsets": [0, 0]}},
    ],
)
def test_a_header_that_lies_takes_no_memory(tmp_path, header):
    text = json.dumps(header).encode()
    raw = len(text).to_bytes(8, "little") + text + bytes(16)
    (tmp_path / "m").write_bytes(raw)
    tracemalloc.start()
    source = CheckpointSource(tmp_path / "m")
    with pytest.raises(FileError):
        source.read("a")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_length_that_lies_takes_no_memory(tmp_path):
    for length in (1 << 63, (1 << 64) - 1, 1 << 40, 99_999_999):
        (tmp_path / "m").write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(40))
        with pytest.raises(FileError, match=r"truncated|damaged"):
            CheckpointSource(tmp_path / "m").tensor_names  # noqa: B018


def test_a_file_of_another_container_has_no_tensors(tmp_path):
    (tmp_path / "m").write_bytes(b"GGUF\3" + bytes(30))
    source = CheckpointSource(tmp_path / "m")
    assert source.tensor_names == ()
    assert source.head == b"GGUF\3" + bytes(11)
    with pytest.raises(FileError, match=r"has no .safetensors file$"):
        Checkpoint(source)


def test_bare_pickles_are_refused(tmp_path):
    (tmp_path / "m").write_bytes(b"\x80\2}q\0.    ")
    with pytest.raises(FileError, match=r"is a bare pickle, which could run code"):
        CheckpointSource(tmp_path / "m").tensor_names  # noqa: B018


def test_float_layers_of_shards(tmp_path):
    rng = np.random.default_rng(1)
    folder = tmp_path / "c"
    folder.mkdir()
    weights = {f"l{at}.weight": rng.standard_normal((4, 32), np.float32) for at in range(4)}
    names = list(weights)
    for at, part in enumerate((names[:2], names[2:])):
        write_safetensors(folder / f"{at}.safetensors", {name: weights[name] for name in part})
    write_safetensors(tmp_path / "whole", weights)
    recipe = Recipe(format="int4", group_size=16)
    quantize_file(folder, tmp_path / "a", recipe)
    quantize_file(tmp_path / "whole", tmp_path / "b", recipe)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(FileError, match=r"must not replace its checkpoint"):
        quantize_file(folder, folder / "1.safetensors", recipe)
