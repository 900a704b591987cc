import random
import struct
import tracemalloc

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize

from lutra.quant import FileError
from lutra.quant.imports import CheckpointSource, detect_importer, import_file
from lutra.quant.imports.gguf import GgufImporter
from lutra.quant.imports.gguf_blocks import BLOCK_TYPES
from lutra.quant.imports.gguf_file import GgufFile
from lutra.quant.imports.gguf_types import GGUF_TYPES

SIZES = {item.name: item for item in GGUF_TYPES.values()}
# Where the halves of a block are: its scale, and its offset if it has one.
HALVES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
    "MXFP4": (),
}


def random_blocks(name, rows, columns, seed=1, spread=6):
    """Random rows of a type; the exponents of a row's scales are within some powers of two."""
    rng = np.random.default_rng(seed)
    item = SIZES[name]
    count = columns // item.block_length
    blocks = rng.integers(0, 256, (rows, count, item.block_bytes), dtype=np.uint8)
    if name == "MXFP4":
        blocks[:, :, 0] = rng.integers(0, 220, (rows, 1)) + rng.integers(0, 2 * spread, count)
    lowest = rng.integers(0, 30 - spread, (rows, 1))
    for place in HALVES[name]:
        fields = lowest + rng.integers(0, spread, (rows, count)) << 10
        fields |= rng.integers(0, 1 << 10, fields.shape) | rng.integers(0, 2, fields.shape) << 15
        blocks[:, :, place : place + 2] = fields.astype("<u2")[..., None].view(np.uint8)
    if name == "TQ2_0":
        codes = rng.integers(0, 3, (rows, count, 64, 4)) << np.arange(0, 8, 2)
        blocks[:, :, :64] = codes.sum(axis=3)
    return blocks.reshape(rows, -1)


def write(path, *, floats=(), alignment=None, strings=(), **tensors):
    """Write blocks of types given as ``name=(type, rows)`` with the gguf package."""
    writer = GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "ü"])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_bool("a.flag", True)
    for key, value in strings:
        writer.add_string(key, value)
    for name, (kind, rows) in tensors.items():
        name = name.replace("__", ".")
        writer.add_tensor(name, rows, raw_dtype=GGMLQuantizationType[kind])
    for name, values in floats:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def opened(path):
    return GgufImporter(CheckpointSource(path))


@pytest.mark.parametrize("name", BLOCK_TYPES)
@pytest.mark.parametrize("columns", [256, 1280])
def test_every_type_equals_the_gguf_package(tmp_path, name, columns):
    rows = random_blocks(name, 7, columns)
    path = write(tmp_path / "m.gguf", blk__0__up__weight=(name, rows))
    importer = opened(path)
    assert importer.layers == ("blk.0.up",)
    assert importer.size("blk.0.up") == 7 * columns
    matrix = importer.read("blk.0.up")
    expected = dequantize(rows, GGMLQuantizationType[name])
    assert np.isfinite(expected).all()
    assert np.array_equal(matrix.dequantize().astype(np.float32), expected)


def test_layers_biases_and_what_is_left_out(tmp_path):
    rng = np.random.default_rng(2)
    bias = rng.standard_normal(6).astype(np.float32)
    path = write(
        tmp_path / "m.gguf",
        token_embd__weight=("Q8_0", random_blocks("Q8_0", 9, 64)),
        output__weight=("Q4_0", random_blocks("Q4_0", 9, 64)),
        blk__0__attn_q__weight=("Q8_0", random_blocks("Q8_0", 6, 64)),
        floats=[
            ("blk.0.attn_q.bias", bias),
            ("blk.0.attn_norm.weight", np.ones(64, np.float32)),
            ("blk.0.gate.weight", np.ones((4, 64), np.float16)),
        ],
    )
    source = CheckpointSource(path)
    assert detect_importer(source) is GgufImporter
    importer = GgufImporter(source)
    assert importer.layers == ("output", "blk.0.attn_q")
    assert importer.tensors("blk.0.attn_q") == ("blk.0.attn_q.weight", "blk.0.attn_q.bias")
    left_out = ("token_embd.weight", "blk.0.attn_norm.weight", "blk.0.gate.weight")
    assert importer.left_out == left_out
    assert np.array_equal(np.asarray(importer.read("blk.0.attn_q").bias), bias)
    made = import_file(path, tmp_path / "m.safetensors")
    assert (made.importer, made.left_out) == ("gguf", left_out)
    back = made.model.layer("output")
    assert np.array_equal(back.dequantize(), importer.read("output").dequantize())


def test_tokens_are_a_layer_where_they_are_the_output_too(tmp_path):
    path = write(tmp_path / "m.gguf", token_embd__weight=("Q8_0", random_blocks("Q8_0", 9, 64)))
    assert opened(path).layers == ("token_embd",)


def test_experts_are_layers(tmp_path):
    rows = random_blocks("Q4_0", 3 * 5, 64)
    bias = np.arange(15, dtype=np.float32).reshape(3, 5)
    stacked = rows.reshape(3, 5, -1)
    path = write(
        tmp_path / "m.gguf",
        ffn_up_exps__weight=("Q4_0", stacked),
        floats=[("ffn_up_exps.bias", bias)],
    )
    importer = opened(path)
    assert importer.layers == ("ffn_up_exps.expert0", "ffn_up_exps.expert1", "ffn_up_exps.expert2")
    assert importer.left_out == ()
    for expert, layer in enumerate(importer.layers):
        matrix = importer.read(layer)
        expected = dequantize(stacked[expert], GGMLQuantizationType.Q4_0)
        assert np.array_equal(matrix.dequantize().astype(np.float32), expected)
        assert np.array_equal(np.asarray(matrix.bias), bias[expert])


def test_types_of_biases(tmp_path):
    values = np.array([1.5, -2, 0.25], dtype=np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    rows = random_blocks("Q4_0", 3, 32)
    write(
        path := tmp_path / "m.gguf",
        a__weight=("Q4_0", rows),
        b__weight=("Q4_0", rows),
        b__bias=("BF16", halves),
        floats=[("a.bias", values.astype(np.float16))],
    )
    assert np.array_equal(np.asarray(opened(path).read("a").bias), values)
    assert np.array_equal(np.asarray(opened(path).read("b").bias), values)
    write(path, a__weight=("Q4_0", rows), floats=[("a.bias", values[:2])])
    with pytest.raises(FileError, match=r"^Layer 'a': Tensor 'a.bias' must be of F32, F16, BF16 "):
        opened(path).read("a")


def write_shards(tmp_path):
    rows = {name: random_blocks("Q4_0", 3, 32, seed) for seed, name in enumerate("abc")}
    writer = GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=1)
    for name, blocks in rows.items():
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rows


def test_shards(tmp_path):
    rows = write_shards(tmp_path)
    for index in (1, 2, 3):
        importer = opened(tmp_path / f"m-0000{index}-of-00003.gguf")
        assert importer.layers == ("a", "b", "c")
        for name, blocks in rows.items():
            expected = dequantize(blocks, GGMLQuantizationType.Q4_0)
            assert np.array_equal(importer.read(name).dequantize().astype(np.float32), expected)
    (tmp_path / "m-00003-of-00003.gguf").rename(tmp_path / "n.gguf")
    with pytest.raises(FileError, match=r"There is no file .*m-00003-of-00003\.gguf$"):
        importer = opened(tmp_path / "m-00001-of-00003.gguf").layers
    with pytest.raises(FileError, match="is one of 3 shards; its name must say so"):
        importer = opened(tmp_path / "n.gguf").layers


def test_shards_are_files_of_the_checkpoint(tmp_path):
    write_shards(tmp_path)
    first, last = (tmp_path / f"m-0000{index}-of-00003.gguf" for index in (1, 3))
    with pytest.raises(FileError, match="must not replace its checkpoint"):
        import_file(first, last)
    source = CheckpointSource(first)
    importer = GgufImporter(source)
    assert importer.other_files == (tmp_path / "m-00002-of-00003.gguf", last)
    before = source.identity(importer.other_files)
    last.write_bytes(last.read_bytes() + b"more")
    assert source.identity(importer.other_files) != before


def test_many_rows_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("lutra.quant.imports.gguf._WEIGHTS_AT_ONCE", 700)
    rows = random_blocks("Q6_K", 11, 256)
    path = write(tmp_path / "m.gguf", a__weight=("Q6_K", rows))
    expected = dequantize(rows, GGMLQuantizationType.Q6_K)
    assert np.array_equal(opened(path).read("a").dequantize().astype(np.float32), expected)


def test_scales_that_do_not_fit_are_refused_with_their_row(tmp_path):
    rows = random_blocks("Q6_K", 3, 512)
    blocks = rows.reshape(3, 2, -1)
    blocks[1, :, 192:208] = 127
    blocks[1, :, 208:] = (
        np.array([2.0**-20 * 1.0009765625, 2.0**14]).astype("<f2").view(np.uint8).reshape(2, 2)
    )
    path = write(tmp_path / "m.gguf", a__weight=("Q6_K", rows))
    with pytest.raises(ValueError, match=r"^Layer 'a': .*row 1.* bits"):
        opened(path).read("a")


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E01, 0x7D00])
def test_infinite_scales_are_refused(tmp_path, bits):
    rows = random_blocks("Q8_0", 3, 64)
    rows.reshape(3, 2, -1)[2, 1, :2] = np.array([bits], "<u2").view(np.uint8)
    path = write(tmp_path / "m.gguf", a__weight=("Q8_0", rows))
    with pytest.raises(ValueError, match=r"^Layer 'a': .* must have finite scales; row 2 has"):
        opened(path).read("a")


def test_ternary_codes_that_are_no_weights_are_refused(tmp_path):
    rows = random_blocks("TQ2_0", 2, 256)
    rows[1, 5] |= 3
    path = write(tmp_path / "m.gguf", a__weight=("TQ2_0", rows))
    with pytest.raises(FileError, match=r"^Layer 'a': Tensor 'a\.weight' has codes that are none"):
        opened(path).read("a")


def test_types_that_are_not_imported_are_named(tmp_path):
    rows = np.zeros((2, 98), np.uint8)
    path = write(tmp_path / "m.gguf", a__weight=("IQ3_XXS", rows))
    with pytest.raises(FileError, match=r"^Layer 'a': .* has type IQ3_XXS, .* Q4_0, Q4_1, "):
        opened(path).read("a")
    data = path.read_bytes()
    place = data.index(b"a.weight") + len("a.weight") + 4 + 16
    path.write_bytes(data[:place] + b"\x63" + data[place + 1 :])
    with pytest.raises(FileError, match=r"^Layer 'a': .* has type number 99, "):
        opened(path).read("a")
    with pytest.raises(FileError, match="has type number 99, which is not known"):
        GgufFile(path).rows("a.weight", 0, 1)


def test_alignment_and_metadata(tmp_path):
    rows = random_blocks("Q4_0", 3, 32)
    path = write(
        tmp_path / "m.gguf",
        a__weight=("Q4_0", rows),
        b__weight=("Q4_0", rows),
        alignment=256,
        strings=[("general.name", "Ü")],
    )
    file = GgufFile(path)
    assert file.metadata["general.name"] == "Ü"
    assert file.metadata["a.flag"] is True
    assert "some.numbers" not in file.metadata
    assert [entry.start % 256 for entry in file.tensors.values()] == [0, 0]
    assert np.array_equal(file.rows("b.weight", 1, 2), rows[1:])


def sample(tmp_path):
    return write(
        tmp_path / "m.gguf",
        a__weight=("Q4_0", random_blocks("Q4_0", 3, 64)),
        b__weight=("Q6_K", random_blocks("Q6_K", 2, 256)),
    )


def test_every_truncation_is_refused(tmp_path):
    path = sample(tmp_path)
    data = path.read_bytes()
    end = max(entry.start + entry.size for entry in GgufFile(path).tensors.values())
    header = min(entry.start for entry in GgufFile(path).tensors.values())
    for length in (*range(header), *range(header, end, 7), end - 1):
        path.write_bytes(data[:length])
        with pytest.raises(FileError, match=str(path)):
            GgufFile(path)
    path.write_bytes(data[:end])
    assert opened(path).layers == ("a", "b")


def test_damage_is_refused_or_harmless(tmp_path):
    path = sample(tmp_path)
    data = path.read_bytes()
    header = min(entry.start for entry in GgufFile(path).tensors.values())
    chance = random.Random(3)
    tracemalloc.start()
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            damaged[chance.randrange(4, header)] = chance.choice((0, 1, 255, chance.randrange(256)))
        path.write_bytes(damaged)
        try:
            importer = opened(path)
            for layer in importer.layers:
                importer.read(layer)
        except ValueError:
            refused += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused > 200
    assert peak < 1 << 21


@pytest.mark.parametrize(
    ("place", "new", "sentence"),
    [
        (0, b"GGML", "is not a GGUF file"),
        (4, b"\x01\0\0\0", "has GGUF version 1; versions that can be read: 2, 3"),
        (4, b"\0\0\0\x03", "is big-endian; only little-endian"),
        (8, b"\xff" * 8, "Tensor '' of .* must have 1 to 4 dimensions, not 0"),
        (16, b"\xff" * 8, "is truncated or damaged: its header needs"),
        (24, b"\xff" * 8, "is truncated or damaged: its header needs 18446744073709551615 bytes"),
        (32, b"\xff", "is damaged: a key at byte 32 is no UTF-8 text"),
    ],
)
def test_sentences_about_the_header(tmp_path, place, new, sentence):
    path = sample(tmp_path)
    data = bytearray(path.read_bytes())
    data[place : place + len(new)] = new
    path.write_bytes(data)
    with pytest.raises(FileError, match=sentence):
        GgufFile(path)


@pytest.mark.parametrize(
    ("skip", "new", "sentence"),
    [
        (0, b"\x05", "'a.weight' of .* must have 1 to 4 dimensions, not 5"),
        (4, bytes(8), r"'a.weight' of .* has no elements: shape \(3, 0\)"),
        (4, b"\x41", "Rows of tensor 'a.weight' .* must be multiples of 32 for type Q4_0, not 65"),
        (12, b"\xff" * 7, "is truncated: tensor 'a.weight' should end at byte"),
        (24, b"\x01", "begins at byte 1 of the data, which is no multiple of the alignment, 32"),
        (24, b"\x80", "Tensors 'a.weight' and 'b.weight' of .* overlap"),
    ],
)
def test_sentences_about_tensors(tmp_path, skip, new, sentence):
    path = sample(tmp_path)
    data = bytearray(path.read_bytes())
    place = data.index(b"a.weight") + len("a.weight") + skip
    data[place : place + len(new)] = new
    path.write_bytes(data)
    with pytest.raises(FileError, match=sentence):
        GgufFile(path)


def assembled(path, pairs=(), tensors=()):
    """Write a header by hand: what the gguf package would not."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs))
    for name, rest in (*pairs, *tensors):
        head += struct.pack("<Q", len(name)) + name + rest
    path.write_bytes(head + bytes(-len(head) % 32 + 64))
    return path


def test_names_are_there_once(tmp_path):
    pair = (b"a.key", struct.pack("<II", 4, 1))
    with pytest.raises(FileError, match=r"has key 'a\.key' twice$"):
        GgufFile(assembled(tmp_path / "m.gguf", pairs=[pair, pair]))
    first, second = (struct.pack("<IQIQ", 1, 8, 0, 32 * at) for at in (0, 1))
    with pytest.raises(FileError, match=r"has tensor 'a' twice$"):
        GgufFile(assembled(tmp_path / "m.gguf", tensors=[(b"a", first), (b"a", second)]))


def test_shards_with_the_same_tensor(tmp_path):
    count = (b"split.count", struct.pack("<IH", 2, 2))
    tensor = (b"a.weight", struct.pack("<IQIQ", 1, 8, 0, 0))
    for index in (1, 2):
        assembled(tmp_path / f"m-0000{index}-of-00002.gguf", pairs=[count], tensors=[tensor])
    with pytest.raises(FileError, match=r"'a\.weight' is both in .*00001-of.* and in .*00002-of"):
        opened(tmp_path / "m-00001-of-00002.gguf").layers  # noqa: B018


def test_experts_of_an_unknown_type_are_not_counted(tmp_path):
    tensor = (b"a.weight", struct.pack("<I3QIQ", 3, 8, 8, 1 << 60, 99, 0))
    importer = opened(assembled(tmp_path / "m.gguf", tensors=[tensor]))
    assert importer.layers == ("a",)
    with pytest.raises(FileError, match="has type number 99, which is not imported"):
        importer.read("a")


def test_arrays_of_arrays(tmp_path):
    value = struct.pack("<I", 9)
    for _ in range(4):
        value += struct.pack("<IQ", 9, 1)
    fine = (b"k", value + struct.pack("<IQ2h", 3, 2, 5, 6))
    assert GgufFile(assembled(tmp_path / "m.gguf", pairs=[fine])).metadata == {}
    deep = (b"k", value + struct.pack("<IQ", 9, 1) + struct.pack("<IQ2h", 3, 2, 5, 6))
    with pytest.raises(FileError, match="is damaged: arrays in arrays in arrays"):
        GgufFile(assembled(tmp_path / "m.gguf", pairs=[deep]))
    unknown = (b"k", struct.pack("<I", 99))
    with pytest.raises(FileError, match=r"a value at byte \d+ has the unknown type 99$"):
        GgufFile(assembled(tmp_path / "m.gguf", pairs=[unknown]))


@pytest.mark.parametrize(
    "value", [struct.pack("<II", 4, 48), struct.pack("<II", 4, 0), struct.pack("<If", 6, 32.0)]
)
def test_alignments_that_are_none(tmp_path, value):
    path = assembled(tmp_path / "m.gguf", pairs=[(b"general.alignment", value)])
    with pytest.raises(FileError, match=r"general\.alignment of .* must be a power of two, not "):
        GgufFile(path)


def test_missing_files(tmp_path):
    with pytest.raises(FileError, match="There is no file"):
        GgufFile(tmp_path / "none.gguf")
    with pytest.raises(FileError, match="Cannot read"):
        GgufFile(tmp_path)
    file = GgufFile(sample(tmp_path))
    with pytest.raises(FileError, match="has no tensor 'c'"):
        file.tensor("c")
    file.path.write_bytes(file.path.read_bytes()[:-600])
    with pytest.raises(FileError, match="has become shorter while it was read"):
        file.rows("b.weight", 0, 2)
