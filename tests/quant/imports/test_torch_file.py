import os
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from lutra.quant import FileError
from lutra.quant.imports import CheckpointSource
from lutra.quant.imports.torch_file import TorchFile

torch = pytest.importorskip("torch")


def saved(path, tree, **choices):
    torch.save(tree, path, **choices)
    return path


def sample():
    rng = np.random.default_rng(1)
    return OrderedDict(
        a=torch.from_numpy(rng.standard_normal((3, 5)).astype(np.float32)),
        b=torch.from_numpy(rng.integers(-9, 9, (2, 4), dtype=np.int32)),
        c=torch.arange(6).to(torch.bfloat16),
    )


def with_members(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "dtype",
    ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"],
)
def test_every_type(tmp_path, dtype):
    tensor = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))
    file = TorchFile(saved(tmp_path / "m.pt", {"x": tensor}))
    expected = tensor.numpy()
    found = file.read("x")
    assert file.entry("x").shape == (3, 4)
    assert np.array_equal(found.astype(expected.dtype), expected)
    assert np.array_equal(file.read("x", slice(1, 2)), found[1:2])
    found[:] = 0  # the caller's own
    assert np.array_equal(file.read("x").astype(expected.dtype), expected)


def test_bfloat16_comes_as_its_bits(tmp_path):
    values = torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16)
    file = TorchFile(saved(tmp_path / "m.pt", {"x": values}))
    assert (file.entry("x").dtype, file.read("x").dtype) == ("BF16", np.uint16)
    assert np.array_equal(file.read("x"), values.view(torch.int16).numpy().view(np.uint16))


def test_names_values_and_parameters(tmp_path):
    tree = {
        "m": {
            "weight": torch.nn.Parameter(torch.ones(2, 3).t()),
            "meta": {"shape": torch.Size([2, 3]), "bits": 4, "type": torch.float16, "none": None},
        },
        "bias": torch.zeros(2),
    }
    file = TorchFile(saved(tmp_path / "m.pt", tree))
    assert list(file.entries) == ["m.weight", "bias"]
    assert file.values["m.meta.shape"] == (2, 3)
    assert file.values["m.meta.bits"] == 4
    assert file.values["m.meta.none"] is None
    assert file.read("m.weight").tolist() == [[1, 1]] * 3
    module = torch.nn.Linear(3, 2)
    file = TorchFile(saved(tmp_path / "l.pt", module.state_dict()))
    assert np.array_equal(file.read("weight"), module.weight.detach().numpy())


def test_a_source_reads_them(tmp_path):
    saved(tmp_path / "pytorch_model-00001-of-00002.bin", {"a": torch.ones(2)})
    saved(tmp_path / "pytorch_model-00002-of-00002.bin", {"b": torch.zeros(3)})
    (tmp_path / "training_args.bin").write_bytes(b"something else")
    source = CheckpointSource(tmp_path)
    assert source.tensor_names == ("a", "b")
    assert source.floats("b").tolist() == [0, 0, 0]
    source = CheckpointSource(tmp_path / "pytorch_model-00001-of-00002.bin")
    assert source.tensor_names == ("a",)


class Code:
    """What would run if it were loaded."""

    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Code(), r"posix\.system"),
        (bytearray(3), r"\w+\.bytearray"),
        (torch.zeros(3, dtype=torch.uint16), r"torch\._utils\._rebuild_tensor_v3"),
        (np.zeros(3), r"numpy\.\S+"),
        (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        (torch.zeros(2, 2).to_sparse(), r"torch\._utils\._rebuild_sparse_tensor"),
    ],
)
def test_other_objects_are_refused_unseen(tmp_path, thing, name):
    path = saved(tmp_path / "m.pt", {"x": thing})
    with pytest.raises(FileError, match=f"holds {name}, which is no part of tensors"):
        TorchFile(path)


def test_a_bare_pickle_is_refused(tmp_path):
    old = saved(tmp_path / "m.pt", sample(), _use_new_zipfile_serialization=False)
    with pytest.raises(FileError, match="is a bare pickle, which could run code"):
        CheckpointSource(old).tensor_names  # noqa: B018
    with pytest.raises(FileError, match=r"is not a file of torch\.save"):
        TorchFile(old)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_other_protocols(tmp_path, protocol):
    members = members_of(saved(tmp_path / "m.pt", {}))
    members["m/data.pkl"] = pickle.dumps({"x": Code()}, protocol)
    with pytest.raises(FileError, match="could run code"):
        TorchFile(with_members(tmp_path / "m.pt", members))


def test_pytorch_is_asked_for_weights_only(tmp_path, monkeypatch):
    asked = {}
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **how: asked.update(how) or load(path, **how))
    TorchFile(saved(tmp_path / "m.pt", sample()))
    assert asked == {"map_location": "cpu", "weights_only": True, "mmap": True}


def test_names_in_an_archive_are_there_once(tmp_path):
    members = members_of(saved(tmp_path / "m.pt", sample()))
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("m/data/0", members["m/data/0"])
    with pytest.raises(FileError, match="is damaged: its directory has a file twice"):
        TorchFile(tmp_path / "m.pt")


def test_compressed_archives_are_refused(tmp_path):
    members = members_of(saved(tmp_path / "m.pt", {"x": torch.zeros(1 << 20)}))
    path = with_members(tmp_path / "n.pt", members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 14
    with pytest.raises(FileError, match=r"compressed, which torch\.save does not do"):
        TorchFile(path)


def test_sizes_beyond_the_file_are_refused(tmp_path):
    # Two entries of the directory for the same bytes.
    path = saved(tmp_path / "m.pt", {"x": torch.zeros(100), "y": torch.zeros(100)})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    place = data.index(b"m/data/0", first) - 46
    size = struct.pack("<I", 1 << 30)
    data[place + 20 : place + 28] = size + size
    path.write_bytes(data)
    with pytest.raises(FileError, match="more bytes than it has"):
        TorchFile(path)


def test_tensors_without_their_numbers_are_refused(tmp_path):
    path = saved(tmp_path / "m.pt", {"x": torch.zeros(1).expand(1 << 40)})
    assert path.stat().st_size < 4096
    with pytest.raises(FileError, match=r"'x' of .* has fewer numbers than its shape says"):
        TorchFile(path)


def test_trees_that_fold_are_refused(tmp_path):
    tree = {"x": torch.zeros(1)}
    for _ in range(7):
        tree = dict.fromkeys((str(index) for index in range(30)), tree)
    with pytest.raises(FileError, match="more names than bytes"):
        TorchFile(saved(tmp_path / "m.pt", tree))
    tree = {}
    tree["x"] = tree
    with pytest.raises(FileError, match="must have dictionaries at most 8 deep"):
        TorchFile(saved(tmp_path / "m.pt", tree))


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ([torch.zeros(2)], "must hold a dictionary, not a list"),
        ({3: torch.zeros(2)}, "must have names in its dictionaries, not 3"),
        ({"a": {"b": torch.zeros(1)}, "a.b": torch.zeros(1)}, "has 'a.b' twice"),
    ],
)
def test_trees_of_other_shapes(tmp_path, tree, sentence):
    with pytest.raises(FileError, match=sentence):
        TorchFile(saved(tmp_path / "m.pt", tree))


def test_other_archives(tmp_path):
    path = with_members(tmp_path / "m.pt", {"a": b"b"})
    with pytest.raises(FileError, match=r"is not a file of torch\.save: it has no data\.pkl"):
        TorchFile(path)
    with_members(path, {"m/data.pkl": b"not a pickle", "m/version": b"3\n"})
    with pytest.raises(FileError, match=r"its data\.pkl is not a pickle"):
        TorchFile(path)
    with_members(path, {"m/data.pkl": b"\x80\x02K\x01.", "m/version": b"x"})
    with pytest.raises(FileError, match="is damaged: PyTorch cannot load it"):
        TorchFile(path)
    with pytest.raises(FileError, match="There is no file"):
        TorchFile(tmp_path / "none.pt")
    with pytest.raises(FileError, match="Cannot read"):
        TorchFile(tmp_path)
    saved(path, {"x": torch.zeros(1, dtype=torch.complex64)})
    with pytest.raises(FileError, match=r"holds torch\.ComplexFloatStorage, which is no part of"):
        TorchFile(path)
    file = TorchFile(saved(path, {"x": torch.zeros(1)}))
    with pytest.raises(FileError, match="has no tensor 'y'"):
        file.read("y")


def test_without_pytorch(tmp_path, monkeypatch):
    path = saved(tmp_path / "m.pt", sample())
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(FileError, match=r"needs PyTorch; install it with: pip install 'lutra\[gpu"):
        TorchFile(path)


def test_damage_is_refused_or_harmless(tmp_path):
    path = saved(tmp_path / "m.pt", sample())
    data = path.read_bytes()
    chance = random.Random(2)
    tracemalloc.start()
    refused = 0
    for count in range(400):
        damaged = bytearray(data)
        if count % 4:
            for _ in range(chance.choice((1, 2, 8))):
                damaged[chance.randrange(len(data))] = chance.choice((
                    0,
                    255,
                    chance.randrange(256),
                ))
        else:
            del damaged[chance.randrange(len(data)) :]
        path.write_bytes(damaged)
        try:
            file = TorchFile(path)
            for name in file.entries:
                file.read(name)
        except FileError:
            refused += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused > 150
    assert peak < 1 << 21


def test_pickles_that_ask_for_memory(tmp_path):
    members = members_of(saved(tmp_path / "m.pt", {}))
    for text in (
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a string of 2 GiB
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a memo of as many entries
        b"\x80\x02\x8a\xff\x01.",
        b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02tR.",
    ):
        members["m/data.pkl"] = text
        with pytest.raises(FileError):
            TorchFile(with_members(tmp_path / "n.pt", members))
