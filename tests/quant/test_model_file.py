import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from lutra.formats import CATALOG, Outliers, QuantizedMatrix, ValueFormat, family
from lutra.quant import (
    METHODS,
    FileError,
    ModelFile,
    ModelWriter,
    Recipe,
    quantize,
    uniform_to_bcq,
)
from lutra.quant.tensor_spool import TensorSpool
from lutra.sim import random_matrix

RECIPE = Recipe(format="bitmod4", group_size=32)


def made(name="bitmod4", rows=5, columns=75, **choices):
    rng = np.random.default_rng(rows * columns)
    weights = rng.standard_normal((rows, columns)).astype(np.float32)
    return quantize(weights, format=name, **{"group_size": 32, **choices})


def made_or_random(name, group_size):
    """Quantise, or draw codes and scales where no method quantises to the family."""
    bias = np.arange(5, dtype=np.float32)
    if any(method.serves(CATALOG[name]) for method in METHODS.values()):
        return made(name, group_size=group_size, bias=bias)
    size = 75 if group_size == "row" else group_size
    return replace(random_matrix(name, 5, 75, size, seed=1), bias=bias)


def with_order_and_outliers(matrix, seed=3):
    rng = np.random.default_rng(seed)
    sparse = rng.integers(-(1 << 40), 1 << 40, matrix.codes.shape)
    sparse[rng.random(matrix.codes.shape) < 0.9] = 0
    return replace(
        matrix,
        column_order=rng.permutation(matrix.columns).astype(np.int32),
        outliers=Outliers.of(sparse),
    )


def write(path: Path, recipe: Recipe | None = RECIPE, **layers: QuantizedMatrix):
    with ModelWriter(path, recipe=recipe) as writer:
        for name, matrix in layers.items():
            writer.add(name, matrix)
    return path


def same(a, b):
    """Whether two arrays are there or not, with the same numbers of the same type."""
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and np.array_equal(a, b)


def equal(a, b):
    arrays = ("codes", "format_ids", "scales", "zeros", "row_scales")
    return (
        all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
        and same(a.bias, b.bias)
        and same(a.column_order, b.column_order)
        and all(
            same(getattr(a.outliers, name, None), getattr(b.outliers, name, None))
            for name in ("row_pointers", "columns", "values")
        )
        and (a.members, a.group_size, a.scale_width) == (b.members, b.group_size, b.scale_width)
    )


def decoded_by_the_layout(path, layer):
    """Rebuild a layer's weights from the file's own description, without Lutra."""
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    record = json.loads(metadata["lutra_layers"])[layer]
    shape = (record["rows"], record["columns"])
    weights = np.zeros(shape)
    for n, k in np.ndindex(shape):
        g = k // record["group_size"]
        ids = tensors.get(f"{layer}.format_ids")
        item = record["members"][0 if ids is None else ids[n, g]]
        code = 0
        if record.get("packing") == "trits":
            code = (0, 1, 3)[int(tensors[f"{layer}.codes"][n, k // 5]) // 3 ** (k % 5) % 3]
        for j in range(record["code_width"]) if "packing" not in record else ():
            i = k * record["code_width"] + j
            code |= (int(tensors[f"{layer}.codes"][n, i // 8]) >> (i % 8) & 1) << j
        scales = tensors[f"{layer}.scales"][n, g].tolist()
        if item["kind"] == "values":
            w = item["values"][code]
            if item["zero_point"]:
                w -= item["values"][tensors[f"{layer}.zeros"][n, g]]
            w *= scales[0]
        elif item["kind"] == "affine":
            w = scales[0] * code + scales[1]
        elif item["kind"] == "free":
            w = scales[code]
        else:
            assert item["kind"] == "signs"
            width = item["code_width"]
            w = sum(scales[i] if code >> i & 1 else -scales[i] for i in range(width))
            w += scales[width] if item["offset"] else 0
        order = tensors.get(f"{layer}.column_order")
        if f"{layer}.outliers.values" in tensors:
            first, end = tensors[f"{layer}.outliers.row_pointers"][n : n + 2]
            for entry in range(first, end):
                if tensors[f"{layer}.outliers.columns"][entry] == k:
                    w += int(tensors[f"{layer}.outliers.values"][entry])
        element = k if order is None else order[k]
        weights[n, element] = float(tensors[f"{layer}.row_scales"][n]) * w
    return weights


@pytest.mark.parametrize("name", CATALOG)
def test_round_trip_of_every_family(tmp_path, name):
    for group_size in (16, "row"):
        matrix = made_or_random(name, group_size)
        file = ModelFile(write(tmp_path / "m.safetensors", a=matrix))
        back = file.layer("a")
        assert equal(back, matrix)
        assert file.record("a").format == name
        assert file.recipe == RECIPE
        file.verify()
        assert np.array_equal(decoded_by_the_layout(file.path, "a"), matrix.dequantize())


@pytest.mark.parametrize("name", ["bitmod4", "int4_affine", "free3", "int3_asym"])
def test_column_order_and_outliers(tmp_path, name):
    matrix = with_order_and_outliers(random_matrix(name, 5, 75, 32, seed=2, scale_width=20))
    file = ModelFile(write(tmp_path / "m.safetensors", None, a=matrix, b=made()))
    file.verify()
    assert equal(file.layer("a"), matrix)
    assert equal(file.layer("b"), made())
    assert np.array_equal(decoded_by_the_layout(file.path, "a"), matrix.dequantize())
    tensors = load_file(file.path)
    sparse = matrix.outliers
    assert sparse is not None
    count = len(sparse.values)
    found = {key: (tensors[key].dtype.name, tensors[key].shape) for key in tensors}
    assert found["a.column_order"] == ("int32", (75,))
    assert found["a.outliers.row_pointers"] == ("int64", (6,))
    assert found["a.outliers.columns"] == ("int32", (count,))
    assert found["a.outliers.values"] == ("int64", (count,))
    assert not any(key.startswith(("b.column_order", "b.outliers")) for key in tensors)


def test_a_layer_of_no_outliers(tmp_path):
    """Three tensors of no entries are not the same as none."""
    matrix = replace(made(), outliers=Outliers.of(np.zeros((5, 75), np.int64)))
    back = ModelFile(write(tmp_path / "m.safetensors", a=matrix)).layer("a")
    assert equal(back, matrix)
    assert back.outliers is not None


@pytest.mark.parametrize("tensor", ["row_pointers", "columns", "values"])
def test_outliers_that_lack_a_tensor(tmp_path, tensor):
    path = write(tmp_path / "m.safetensors", a=with_order_and_outliers(made()))
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors[f"a.outliers.{tensor}"]
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(FileError, match=rf"outliers\.{tensor}"):
        ModelFile(path).layer("a")


@pytest.mark.parametrize("scale_width", [17, 24, 31])
def test_scales_of_any_width(tmp_path, scale_width):
    matrix = random_matrix("int4_affine", 5, 75, 32, seed=2, scale_width=scale_width)
    path = write(tmp_path / "m.safetensors", None, a=matrix)
    assert load_file(path)["a.scales"].dtype == np.int32
    assert equal(ModelFile(path).layer("a"), matrix)
    assert np.array_equal(decoded_by_the_layout(path, "a"), matrix.dequantize())


@pytest.mark.parametrize("scale_width", [1, 8, 15, 16])
def test_scales_take_the_narrowest_type(tmp_path, scale_width):
    matrix = made("bcq2_asym", scale_width=scale_width)
    path = write(tmp_path / "m.safetensors", a=matrix)
    assert load_file(path)["a.scales"].dtype == (np.int32 if scale_width == 16 else np.int16)
    assert equal(ModelFile(path).layer("a"), matrix)


def test_tensors_are_as_documented(tmp_path):
    path = write(
        tmp_path / "m.safetensors",
        mixed=made("bitmod3", 5, 75, bias=np.zeros(5)),
        plain=made("int4", 6, 20),
        zeros=made("int5_asym", 7, 33),
    )
    found = {name: (array.dtype.name, array.shape) for name, array in load_file(path).items()}
    assert found == {
        "mixed.codes": ("uint8", (5, 29)),
        "mixed.format_ids": ("uint8", (5, 3)),
        "mixed.scales": ("int16", (5, 3, 1)),
        "mixed.row_scales": ("float32", (5,)),
        "mixed.bias": ("float32", (5,)),
        "plain.codes": ("uint8", (6, 10)),
        "plain.scales": ("int16", (6, 1, 1)),
        "plain.row_scales": ("float32", (6,)),
        "zeros.codes": ("uint8", (7, 21)),
        "zeros.scales": ("int16", (7, 2, 1)),
        "zeros.zeros": ("uint8", (7, 2)),
        "zeros.row_scales": ("float32", (7,)),
    }


def test_metadata_are_as_documented(tmp_path):
    path = write(tmp_path / "m.safetensors", a=made())
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert metadata["lutra_model_version"] == "1"
    assert Recipe.from_json(metadata["lutra_recipe"]) == RECIPE
    record = json.loads(metadata["lutra_layers"])["a"]
    assert {key: record[key] for key in record if key != "members"} == {
        "format": "bitmod4",
        "group_size": 32,
        "rows": 5,
        "columns": 75,
        "scale_width": 8,
        "code_width": 4,
    }
    assert [item["values"][8] for item in record["members"]] == [10, -10, 16, -16]
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert metadata["lutra_sha256"] == hashlib.sha256(content[start:]).hexdigest()


def test_tensors_are_aligned_and_the_file_is_reproducible(tmp_path):
    layers = {"a": made(rows=3, columns=5), "b": made("int3_asym", 7, 9)}
    first = write(tmp_path / "1.safetensors", None, **layers).read_bytes()
    assert first == write(tmp_path / "2.safetensors", None, **layers).read_bytes()
    length = int.from_bytes(first[:8], "little")
    assert length % 8 == 0
    sizes = {"F32": 4, "I16": 2, "I32": 4, "U8": 1}
    for name, entry in json.loads(first[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % sizes[entry["dtype"]] == 0


def test_layers_keep_their_order_and_stay_apart(tmp_path):
    layers = {f"l{n}": made(rows=n, columns=40) for n in (12, 3, 7)}
    file = ModelFile(write(tmp_path / "m.safetensors", None, **layers))
    assert file.layers == ("l12", "l3", "l7")
    for name, matrix in layers.items():
        assert equal(file.layer(name), matrix)


def test_figures_for_inspection(tmp_path):
    matrix = made("bitmod4", 64, 256, group_size=128, bias=np.zeros(64))
    file = ModelFile(write(tmp_path / "m.safetensors", a=matrix))
    # 4 bits a code; a format id and an int16 scale for 128 weights; a float32 for 256.
    assert file.bits_per_weight("a") == 4 + 24 / 128 + 32 / 256
    assert file.stored_bytes("a") == 64 * 256 * file.bits_per_weight("a") / 8
    counts = file.group_counts("a")
    assert list(counts) == [item.name for item in family("bitmod4").members]
    assert sum(counts.values()) == 128
    for index, item in enumerate(matrix.members):
        assert counts[item.name] == (matrix.format_ids == index).sum()


def test_mixtures_and_formats_of_ones_own(tmp_path):
    own = ValueFormat("own", 2, (0, 5, -7, 1), grid_exponent=-3, source="here")
    members = (family("int8").members[0], own)
    matrix = QuantizedMatrix(
        members=members,
        group_size=2,
        codes=np.array([[200, 100, 3, 2]], np.uint8),
        format_ids=np.array([[0, 1]], np.uint8),
        scales=np.array([[[3], [-4]]], np.int32),
        zeros=np.zeros((1, 2), np.uint8),
        row_scales=np.array([0.25], np.float32),
    )
    file = ModelFile(write(tmp_path / "m.safetensors", recipe=None, a=matrix))
    back = file.layer("a")
    assert file.recipe is None
    assert file.record("a").format == ""
    assert file.record("a").code_width == 8
    assert back.members[0] is members[0]
    assert back.members[1] == replace(own, source="")
    assert np.array_equal(back.dequantize(), matrix.dequantize())
    assert np.array_equal(decoded_by_the_layout(file.path, "a"), matrix.dequantize())


def test_converted_layers_are_stored(tmp_path):
    matrix = uniform_to_bcq(made("int4_asym"), scale_width=12)
    file = ModelFile(write(tmp_path / "m.safetensors", a=matrix))
    assert equal(file.layer("a"), matrix)
    assert file.record("a").format == "bcq4_asym"


# What can go wrong when writing.


class StopError(Exception):
    """An error of the caller's own."""


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_nothing_is_left_behind(tmp_path, before, error):
    path = tmp_path / "m.safetensors"
    if before is not None:
        path.write_bytes(before)
    listing = sorted(tmp_path.iterdir())

    def interrupted():
        with ModelWriter(path) as writer:
            writer.add("a", made())
            raise error

    with pytest.raises(error):
        interrupted()
    assert sorted(tmp_path.iterdir()) == listing
    assert before is None or path.read_bytes() == before


def test_nothing_is_left_behind_when_the_end_fails(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"what was there")

    def full(self, tensor, file, digest):
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorSpool, "_copy", full)
    with pytest.raises(FileError, match=r"^Cannot write .*m\.safetensors: No space left"):
        write(path, a=made())
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"what was there"


def test_the_file_appears_only_at_the_end(tmp_path):
    path = tmp_path / "m.safetensors"
    with ModelWriter(path) as writer:
        writer.add("a", made())
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_file_is_replaced(tmp_path):
    path = write(tmp_path / "m.safetensors", a=made())
    write(path, b=made())
    assert ModelFile(path).layers == ("b",)


def test_a_folder_that_is_missing_or_in_the_way(tmp_path):
    with pytest.raises(FileError, match=r"^Cannot write .*none/m: No such file or directory"):
        write(tmp_path / "none" / "m", a=made())
    with pytest.raises(FileError, match=r"^Cannot write .*: it is a folder"):
        write(tmp_path, a=made())


def test_layers_need_names_of_their_own(tmp_path):
    path = tmp_path / "m.safetensors"
    with ModelWriter(path) as writer:
        writer.add("a", made())
        with pytest.raises(ValueError, match="Layer 'a' is in the model file already"):
            writer.add("a", made())
        with pytest.raises(ValueError, match="must have a name"):
            writer.add("", made())
    assert ModelFile(path).layers == ("a",)


def test_a_model_file_needs_a_layer(tmp_path):
    with pytest.raises(FileError, match="at least one layer"):
        write(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_writer_is_a_context_manager(tmp_path):
    with pytest.raises(ValueError, match="with statement"):
        ModelWriter(tmp_path / "m").add("a", made())


# What can go wrong when reading.


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"^There is no file .*none\.safetensors$"):
        ModelFile(tmp_path / "none.safetensors")


def test_folder(tmp_path):
    with pytest.raises(FileError, match=r"^Cannot read .*: "):
        ModelFile(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"hello world, this is no tensor", b"PK\x03\x04" + bytes(200), bytes(64)],
)
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"is not a safetensors file, or is damaged$"):
        ModelFile(path)


def test_truncated_at_any_byte(tmp_path):
    path = write(tmp_path / "m.safetensors", a=made())
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        pattern = "is truncated" if length > 8 else "is not a safetensors file"
        with pytest.raises(FileError, match=pattern):
            ModelFile(path)


def test_a_checkpoint_is_no_model_file(tmp_path):
    save_file({"a.weight": np.ones((2, 2), np.float32)}, tmp_path / "c.safetensors")
    with pytest.raises(FileError, match="not a Lutra model file; make one with"):
        ModelFile(tmp_path / "c.safetensors")


def change(path, **metadata):
    """Write a file again with other metadata; None removes an entry."""
    with safe_open(path, framework="np") as file:
        kept = {**file.metadata(), **metadata}
    save_file(load_file(path), path, {k: v for k, v in kept.items() if v is not None})


def changed_layer(path, **fields):
    with safe_open(path, framework="np") as file:
        layers = json.loads(file.metadata()["lutra_layers"])
    for name, value in fields.items():
        if value is None:
            del layers["a"][name]
        else:
            layers["a"][name] = value
    change(path, lutra_layers=json.dumps(layers))


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"lutra_model_version": "2"}, r"is a model file of version 2, .* version 1; update Lutra"),
        ({"lutra_model_version": "1.5"}, "damaged"),
        ({"lutra_model_version": "0"}, "damaged"),
        ({"lutra_model_version": None}, "not a Lutra model file"),
        ({"lutra_recipe": None}, "damaged: its metadata lack lutra_recipe"),
        ({"lutra_recipe": "{"}, "lutra_recipe that are not valid"),
        ({"lutra_recipe": '{"format": "int99"}'}, "Unknown format 'int99'"),
        ({"lutra_layers": None}, "damaged: its metadata lack lutra_layers"),
        ({"lutra_layers": "[]"}, "lutra_layers that are not valid"),
        ({"lutra_layers": '{"a": {}}'}, "lutra_layers that are not valid"),
        ({"lutra_layers": '{"a": 3}'}, "lutra_layers that are not valid"),
    ],
)
def test_metadata_that_are_not_as_they_should_be(tmp_path, metadata, sentence):
    path = write(tmp_path / "m.safetensors", a=made())
    change(path, **metadata)
    with pytest.raises(FileError, match=sentence) as caught:
        ModelFile(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"rows": "5"},
        {"rows": 0},
        {"rows": 1 << 62},
        {"group_size": None},
        {"group_size": 1 << 70},
        {"columns": 2.0},
        {"code_width": 3},
        {"code_width": 9},
        {"members": []},
        {"members": [{"name": "x", "kind": "wave"}]},
        {"members": [{"name": "x", "kind": "values", "code_width": 2, "values": [1, 2]}]},
        {"members": [{"name": "x"}]},
        {"members": 3},
        {"colour": "red"},
    ],
)
def test_layers_that_are_not_described_as_they_should_be(tmp_path, fields):
    path = write(tmp_path / "m.safetensors", a=made())
    changed_layer(path, **fields)
    with pytest.raises(FileError, match="lutra_layers that are not valid"):
        ModelFile(path)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rows": 6}, r"must be int16 of shape \(6, 3, 1\)"),
        ({"columns": 90}, r"must be uint8 of shape \(5, 45\)"),
        ({"group_size": 75}, r"must be int16 of shape \(5, 1, 1\)"),
        ({"code_width": 8}, r"must be uint8 of shape \(5, 75\)"),
        ({"scale_width": 16}, "must be int32"),
        ({"scale_width": 4}, r"Layer 'a' of .* is damaged: Group scales must be within ±15"),
    ],
)
def test_tensors_that_do_not_fit_their_description(tmp_path, fields, sentence):
    path = write(tmp_path / "m.safetensors", a=made())
    changed_layer(path, **fields)
    with pytest.raises(FileError, match=sentence):
        ModelFile(path).layer("a")


@pytest.mark.parametrize("name", ["rows", "columns"])
@pytest.mark.parametrize("size", [1 << 30, 1 << 61])
def test_sizes_of_no_tensor_take_no_memory(tmp_path, name, size):
    path = write(tmp_path / "m.safetensors", a=made())
    changed_layer(path, **{name: size})
    model = ModelFile(path)
    for ask in (model.group_counts, model.weight_counts, model.code_bits, model.bits_per_weight):
        tracemalloc.start()
        with pytest.raises(FileError, match=r"^Tensor 'a\.\w+' of .* must be u?int\d+ of shape"):
            ask("a")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


def test_a_tensor_that_is_missing(tmp_path):
    path = write(tmp_path / "m.safetensors", a=made())
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    save_file({k: v for k, v in load_file(path).items() if k != "a.codes"}, path, metadata)
    with pytest.raises(FileError, match=r"^\S+ has no tensor 'a\.codes'$"):
        ModelFile(path).layer("a")


def test_a_layer_that_is_missing(tmp_path):
    path = write(tmp_path / "m.safetensors", None, **{f"l{n}": made() for n in range(9)})
    with pytest.raises(ValueError, match=r"has no layer 'x'; it has l0, l1.*l7, …$"):
        ModelFile(path).layer("x")


def test_every_changed_byte_is_noticed(tmp_path):
    path = write(tmp_path / "m.safetensors", a=made(rows=2, columns=20))
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for position in range(start, len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(FileError, match="do not have the recorded SHA-256"):
            ModelFile(path).verify()
