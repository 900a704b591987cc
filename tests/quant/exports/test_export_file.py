"""Exports: equal to what was imported, and read by the format's own package."""

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from lutra.quant import FileError, ModelFile, ModelWriter, quantize
from lutra.quant.exports import EXPORTERS, SCALE_TYPES, export_file
from lutra.quant.imports import CheckpointSource, import_file
from lutra.sim.sample_checkpoints import write_compressed_tensors, write_gptq

FIELDS = ("codes", "scales", "zeros", "row_scales", "column_order", "bias")


def tensors(folder):
    source = CheckpointSource(folder)
    return {name: source.read(name) for name in source.tensor_names}


def exported(tmp_path, sample, target):
    import_file(sample.path, tmp_path / "m")
    export_file(tmp_path / "m", tmp_path / "out", target)
    return tmp_path / "out"


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gptq_comes_back_in_every_bit(tmp_path, bits, act_order, symmetric):
    rng = np.random.default_rng(bits)
    sample = write_gptq(
        tmp_path / "in", rng, bits=bits, act_order=act_order, symmetric=symmetric, version="gptq_v2"
    )
    before = tensors(sample.path)
    before.pop("model.embed_tokens.weight")
    folder = exported(tmp_path, sample, "gptq")
    after = tensors(folder)
    config = json.loads((folder / "quantize_config.json").read_text())
    assert config["desc_act"] is act_order
    assert config["sym"] is symmetric
    # Of 96 zero-points of fewer than 8 bits some are 0.
    less_one = config["checkpoint_format"] == "gptq"
    assert less_one == (symmetric or bits == 8)
    if less_one:
        fields = before["model.a.qzeros"].view(np.uint32)
        ones = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}.get(bits)
        if ones is not None:
            before["model.a.qzeros"] = (fields - np.uint32(ones)).view(np.int32)
        else:
            before.pop("model.a.qzeros")
            after.pop("model.a.qzeros")
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert array.dtype == after[name].dtype
        assert np.array_equal(array, after[name]), name


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [False, True])
def test_compressed_tensors_come_back_in_every_bit(tmp_path, bits, symmetric):
    rng = np.random.default_rng(bits)
    sample = write_compressed_tensors(
        tmp_path / "in", rng, bits=bits, symmetric=symmetric, columns=352, rows=44
    )
    before = tensors(sample.path)
    before.pop("model.norm.weight")
    after = tensors(exported(tmp_path, sample, "compressed-tensors"))
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert array.dtype == after[name].dtype
        assert np.array_equal(array, after[name]), name


@pytest.mark.parametrize("target", ["gptq", "compressed-tensors"])
@pytest.mark.parametrize("origin", [write_gptq, write_compressed_tensors])
@pytest.mark.parametrize("act_order", [False, True])
def test_one_format_becomes_another(tmp_path, target, origin, act_order):
    options = {} if origin is write_gptq else {"columns": 96, "rows": 32, "symmetric": False}
    sample = origin(tmp_path / "in", np.random.default_rng(1), act_order=act_order, **options)
    first = import_file(sample.path, tmp_path / "m").model.layer("model.a")
    export_file(tmp_path / "m", tmp_path / "out", target)
    second = import_file(tmp_path / "out", tmp_path / "m2").model.layer("model.a")
    assert first.members == second.members
    assert first.group_size == second.group_size
    for field in FIELDS:
        one, other = getattr(first, field), getattr(second, field)
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other), field


def test_the_package_reads_what_is_exported(tmp_path):
    compressors = pytest.importorskip("compressed_tensors.compressors")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    compressor = compressors.BaseCompressor.get_value_from_registry("pack-quantized")
    with ModelWriter(tmp_path / "m") as writer:
        for bits in range(2, 9):
            for suffix in ("", "_asym"):
                weights = rng.standard_normal((40, 96), dtype=np.float32)
                name = f"int{bits}{suffix}"
                writer.add(name, quantize(weights, format=name, group_size=None))
    export_file(tmp_path / "m", tmp_path / "out", "compressed-tensors")
    source = CheckpointSource(tmp_path / "out")
    groups = source.config["config_groups"].values()
    model = ModelFile(tmp_path / "m")
    seen = 0
    for group in groups:
        scheme = quantization.QuantizationScheme.model_validate(group)
        for name in group["targets"]:
            state = {
                tensor.removeprefix(f"{name}."): torch.from_numpy(source.read(tensor))
                for tensor in source.tensor_names
                if tensor.startswith(f"{name}.")
            }
            found = compressor.decompress(state, scheme)["weight"].numpy()
            assert np.array_equal(found, model.layer(name).dequantize().astype(np.float32))
            seen += 1
    assert seen == 14


def model(path, **layers):
    with ModelWriter(path) as writer:
        for name, matrix in layers.items():
            writer.add(name, matrix)


def integers(rows=32, columns=64, name="int4", group_size=None):
    weights = np.random.default_rng(3).standard_normal((rows, columns), dtype=np.float32)
    return quantize(weights, format=name, group_size=group_size)


@pytest.mark.parametrize(
    ("target", "layers", "sentence"),
    [
        ("gptq", {"a": integers(name="bitmod4")}, r"^Layer 'a': Formats bitmod4_p5, .* int2 to"),
        ("gptq", {"a": integers(name="int5")}, "^Layer 'a': Codes must be of 2, 3, 4 or 8 bits"),
        ("gptq", {"a": integers(rows=30)}, "^Layer 'a': .* multiples of 8 .* not 30 x 64$"),
        ("gptq", {"a": integers(columns=72, name="int3")}, "multiples of 32 .* not 32 x 72$"),
        ("gptq", {"a": integers(), "b": integers(name="int8")}, "^Layer 'b': GPTQ has one number"),
        ("gptq", {"a": integers(group_size=16)}, "^Layer 'a': The scales of row 0 are products"),
        ("awq", {"a": integers()}, "^Unknown exporter 'awq'; known exporters: gptq, "),
    ],
)
def test_what_cannot_be_held_is_refused(tmp_path, target, layers, sentence):
    model(tmp_path / "m", **layers)
    with pytest.raises(ValueError, match=sentence):
        export_file(tmp_path / "m", tmp_path / "out", target)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_folders_in_use_are_refused(tmp_path):
    model(tmp_path / "m", a=integers())
    with pytest.raises(FileError, match="must be a new or an empty folder"):
        export_file(tmp_path / "m", tmp_path, "gptq")
    (tmp_path / "out").mkdir()
    export_file(tmp_path / "m", tmp_path / "out", "gptq")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "quantize_config.json",
    ]


def test_progress_counts_both_passes(tmp_path):
    model(tmp_path / "m", a=integers(), b=integers(rows=64))
    seen = []
    export_file(tmp_path / "m", tmp_path / "out", "gptq", progress=lambda *call: seen.append(call))
    total = 2 * (2048 + 4096)
    assert seen == [
        ("a", 0, total),
        ("b", 2048, total),
        ("a", 6144, total),
        ("b", 8192, total),
        ("b", total, total),
    ]


@pytest.mark.parametrize("target", EXPORTERS)
@pytest.mark.parametrize("scale_type", SCALE_TYPES)
def test_scales_are_rounded_where_a_type_is_named(tmp_path, target, scale_type):
    """Codes stay; a scale is the nearest number of the type; the largest change is told."""
    matrix = integers(group_size=16)
    model(tmp_path / "m", a=matrix)
    made = export_file(tmp_path / "m", tmp_path / "out", target, scale_type=scale_type)
    import_file(tmp_path / "out", tmp_path / "back")
    back = ModelFile(tmp_path / "back").layer("a")
    scales = matrix.scales[..., 0] * matrix.row_scales.astype(np.float64)[:, None]
    rounded = scales.astype(ml_dtypes.bfloat16 if scale_type == "bfloat16" else scale_type)
    rounded = rounded.astype(np.float64)
    values = matrix.members[0].weight_table([1])[matrix.codes]
    assert np.array_equal(back.dequantize(), values * np.repeat(rounded, 16, axis=1))
    assert made.scale_change == (np.abs(rounded - scales) / np.abs(scales)).max() > 0


def test_scales_beyond_a_type_are_refused(tmp_path):
    matrix = integers(group_size=16)
    model(tmp_path / "m", a=replace(matrix, row_scales=matrix.row_scales * np.float32(2.0**30)))
    with pytest.raises(ValueError, match=r"^Layer 'a': The scales of row 0 are beyond"):
        export_file(tmp_path / "m", tmp_path / "out", "gptq", scale_type="float16")
    with pytest.raises(ValueError, match=r"^Unknown type of scales 'int8'; known types: float16, "):
        export_file(tmp_path / "m", tmp_path / "out", "gptq", scale_type="int8")
