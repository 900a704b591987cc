"""Quantised checkpoints that cannot be read as they are: a sentence that names the layer."""

import json

import ml_dtypes
import numpy as np
import pytest

from lutra.quant import ModelFile
from lutra.quant.imports import CheckpointSource, detect_importer, import_file
from lutra.sim.sample_checkpoints import (
    write_awq,
    write_bitsandbytes,
    write_compressed_floats,
    write_compressed_tensors,
    write_gpt_oss,
    write_gptq,
    write_modelopt,
    write_safetensors,
)

NAN = np.float32(np.nan)


def tensors_of(sample):
    """Return the tensors of a sample, by name, in types that can be written again."""
    source = CheckpointSource(sample.path)
    kinds = {"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn}
    tensors = {}
    for name in source.tensor_names:
        array, kind = source.read(name), kinds.get(source.entry(name).dtype)
        tensors[name] = array if kind is None else array.view(kind)
    return tensors


def edit(sample, config=None, **changes):
    """Change tensors of layer ``model.a``, by a function or to nothing, and the configuration."""
    tensors = tensors_of(sample)
    for key, change in changes.items():
        name = next(item for item in tensors if item.endswith(key.replace("__", ".")))
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors[name].copy())
    write_safetensors(sample.path / "model.safetensors", tensors)
    for path in sample.path.glob("*.json"):
        root = json.loads(path.read_text())
        inner = root.get("quantization_config", root.get("quantization", root))
        inner |= config or {}
        path.write_text(json.dumps(root))
    return sample.path


def put(value, place=(0, 0)):
    """Return what writes one number."""

    def change(array):
        array[place] = value
        return array

    return change


def scheme(**changes):
    """Return a configuration of compressed-tensors."""
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, **changes}
    return {"config_groups": {"g": {"targets": ["Linear"], "weights": weights}}}


LAYER = "^Layer 'model.a': "
CASES = [
    (write_gptq, {"scales": put(np.nan)}, {}, LAYER + ".*must be of finite numbers"),
    (write_gptq, {"scales": put(np.inf)}, {}, LAYER + ".*must be of finite numbers"),
    (write_gptq, {"scales": lambda a: a[:-1]}, {}, LAYER + r".*of shape \(3, 32\), not \(2, 32\)"),
    (write_gptq, {"scales": None}, {}, LAYER + ".* has no tensor 'model.a.scales'$"),
    (write_gptq, {"scales": lambda a: a.view(np.int32)}, {}, LAYER + ".*must be of shape"),
    (write_gptq, {"qzeros": None}, {}, "has no tensor 'model.a.qzeros'$"),
    (write_gptq, {"qzeros": lambda a: a[:, :1]}, {}, "'model.a.qzeros' has 1 bits|are not 2, 3"),
    (write_gptq, {"qweight": lambda a: a.astype(np.int64)}, {}, "must be I32 of 2 dimensions"),
    (write_gptq, {"qweight": lambda a: a[:, :5]}, {}, "'model.a.qzeros' has 4 words for 5 outputs"),
    (write_gptq, {"g_idx": put(3, 0)}, {}, LAYER + ".* must have groups from 0 to 2, not 3$"),
    (write_gptq, {"g_idx": put(-1, 0)}, {}, LAYER + ".* must have groups from 0 to 2, not -1$"),
    (write_gptq, {"g_idx": put(2, 0)}, {}, LAYER + ".* which no size of at least 8 divides$"),
    (write_gptq, {"g_idx": lambda a: a[1:]}, {}, LAYER + r".*of shape \(96,\), not .* \(95,\)$"),
    (write_gptq, {"g_idx": None}, {"group_size": 64}, LAYER + "There are 3 groups .* of 64, and"),
    (write_gptq, {"g_idx": None}, {"group_size": 0}, LAYER + "There are 3 groups .* of 0, and"),
    (write_gptq, {"g_idx": None}, {"group_size": "x"}, LAYER + "There are 3 groups .* of 'x', and"),
    (write_gptq, {"bias": put(NAN, 0)}, {}, LAYER + ".*bias' must be of finite numbers"),
    (write_gptq, {"bias": lambda a: a[1:]}, {}, LAYER + r".*bias' must be of shape \(32,\)"),
    (write_gptq, {}, {"bits": 8}, "has 4 bits for each output, and the configuration says 8$"),
    (write_gptq, {}, {"checkpoint_format": "marlin"}, "of format 'marlin'; Lutra imports gptq and"),
    (write_gptq, {}, {"quant_method": "fp8"}, "is quantised by 'fp8', which Lutra does not import"),
    (write_awq, {}, {"version": "gemv"}, "of version 'gemv'; Lutra imports gemm$"),
    (write_awq, {}, {"bits": 3}, "must be an AWQ checkpoint of 4 bits, not 3$"),
    (write_awq, {}, {"group_size": 16}, LAYER + "There are 3 groups of zero-points for 80 inputs"),
    (write_awq, {"qzeros": lambda a: a[:, 1:]}, {}, LAYER + ".*I32 of shape"),
    (write_awq, {"scales": put(np.nan)}, {}, LAYER + ".*must be of finite numbers"),
    (write_compressed_tensors, {}, {"format": "marlin-24"}, "format 'marlin-24'; Lutra imports"),
    (write_compressed_tensors, {}, {"config_groups": {}}, "must have config_groups$"),
    (write_compressed_tensors, {}, scheme(num_bits=9), "num_bits .* must be in 2..8, not 9$"),
    (write_compressed_tensors, {}, scheme(num_bits=5), LAYER + "Its 10 words .* go with none of"),
    (write_compressed_tensors, {}, scheme(strategy="block"), "must be one of group, .* 'block'$"),
    (write_compressed_tensors, {}, scheme(group_size=-5), "positive integer, not -5$"),
    (write_compressed_tensors, {}, scheme(group_size=16), LAYER + "Its 10 words and 3 scales"),
    (write_compressed_tensors, {"shape": put(97, 1)}, {}, LAYER + "Its 10 words .* row of 97"),
    (write_compressed_tensors, {"shape": put(10**15, 1)}, {}, "must be the rows and columns of"),
    (write_compressed_tensors, {"shape": put(-1, 1)}, {}, "must be the rows and columns of"),
    (write_compressed_tensors, {"shape": None}, {}, "has no tensor 'model.a.weight_shape'$"),
    (write_compressed_tensors, {"scale": put(np.inf)}, {}, LAYER + ".*must be of finite numbers"),
    (write_compressed_tensors, {"scale": lambda a: a[1:]}, {}, LAYER + ".*must have 12 rows"),
    (write_compressed_floats, {"global_scale": put(0, 0)}, {}, LAYER + ".*must not be zero"),
    (write_compressed_floats, {"global_scale": put(NAN, 0)}, {}, LAYER + ".*of finite numbers"),
    (write_compressed_floats, {"global_scale": put(1e-40, 0)}, {}, LAYER + "Scales must be finite"),
    (write_compressed_floats, {"weight_scale": put(NAN)}, {}, LAYER + ".*it has NaN$"),
    (write_compressed_floats, {"global_scale": None}, {}, LAYER + ".* no mxfp4-pack-quantized in"),
    (write_modelopt, {"weight_scale": put(NAN)}, {}, LAYER + ".*it has NaN$"),
    (write_modelopt, {"scale_2": put(NAN, ())}, {}, LAYER + ".*of finite numbers"),
    (write_modelopt, {"a__weight": lambda a: a[1:]}, {}, LAYER + ".*weight_scale' must be F8_E4M3"),
    (write_modelopt, {}, {"quant_algo": "FP8"}, "of 'FP8'; Lutra imports NVFP4$"),
    (write_modelopt, {}, {"group_size": 32}, "NVFP4 must have groups of 16, not 32$"),
    (write_gpt_oss, {"scales": put(255, (1, 0, 0))}, {}, r"expert1': .* it has NaN, 255$"),
    (
        write_gpt_oss,
        {"scales": lambda a: a[:2]},
        {},
        r"expert0': .*\(3, 6, 3\), not .*\(2, 6, 3\)$",
    ),
    (write_gpt_oss, {"blocks": lambda a: a[..., :8]}, {}, r"expert0': .*\(3, 6, 3, 16\)"),
    (write_gpt_oss, {"bias": lambda a: a[:, 1:]}, {}, r"expert0': .*must be of shape \(3, 6\)"),
    (write_bitsandbytes, {"absmax": put(NAN, 0)}, {}, LAYER + ".*must be of finite numbers"),
    (write_bitsandbytes, {"absmax": lambda a: a[1:]}, {}, LAYER + r".*of shape \(12,\), not \(11,"),
    (write_bitsandbytes, {"quant_map": put(0.5, 3)}, {}, LAYER + ".*must be the table of nf4"),
    (write_bitsandbytes, {"quant_map": None}, {}, LAYER + ".* has no tensor 'model.a.weight.quant"),
    (write_bitsandbytes, {"a__weight": lambda a: a[1:]}, {}, LAYER + ".*384 bytes .* not 383$"),
    (write_bitsandbytes, {"nf4": lambda a: a[1:]}, {}, LAYER + ".*must be a JSON object$"),
]


@pytest.mark.parametrize(("writer", "changes", "config", "sentence"), CASES)
def test_refusals(tmp_path, writer, changes, config, sentence):
    path = edit(writer(tmp_path / "in", np.random.default_rng(1)), config, **changes)
    with pytest.raises(ValueError, match=sentence) as caught:
        import_file(path, tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert [item.name for item in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shape": [6, 128, 1]}, "must have a shape of two numbers"),
        ({"shape": [6, -128]}, "must have a positive number of columns, not -128$"),
        ({"shape": [6, True]}, "must have a positive number of columns, not True$"),
        ({"shape": [10**40, 128]}, "must have 6400000"),
        ({"blocksize": 0}, "must have a positive blocksize, not 0$"),
        ({"blocksize": 68}, "no size of at least 8 divides both$"),
        ({"quant_type": "fp4"}, "says that it is 'fp4'$"),
        ({"nested_offset": 1e40}, "must have a finite nested_offset"),
    ],
)
def test_states_of_bitsandbytes(tmp_path, fields, sentence):
    sample = write_bitsandbytes(tmp_path / "in", np.random.default_rng(1))

    def change(array):
        text = json.dumps(json.loads(array.tobytes()) | fields).encode()
        return np.frombuffer(text, np.uint8)

    with pytest.raises(ValueError, match=sentence):
        import_file(edit(sample, nf4=change), tmp_path / "m")


def test_activations_that_must_be_scaled_first(tmp_path):
    sample = write_modelopt(tmp_path, np.random.default_rng(1))
    scale = {"model.a.pre_quant_scale": np.ones(96, np.float32)}
    write_safetensors(tmp_path / "model.safetensors", tensors_of(sample) | scale)
    with pytest.raises(ValueError, match=r"multiplied by 'model\.a\.pre_quant_scale' first"):
        import_file(tmp_path, tmp_path / "m")


def test_scales_that_lie_too_far_apart(tmp_path):
    def far(array):
        array[0, 0], array[1, 0] = 2.0**-149, 1 + 2.0**-23
        return array

    path = edit(write_gptq(tmp_path, np.random.default_rng(1), scale_type=np.float32), scales=far)
    with pytest.raises(ValueError, match=LAYER + "Scales of row 0 "):
        import_file(path, tmp_path / "m")


def test_a_group_of_zeros_may_have_any_scale(tmp_path):
    sample = write_compressed_floats(tmp_path, np.random.default_rng(1), kind="mxfp4")

    def silent(array):
        array[2, :16] = 0x80  # 0 and -0
        return array

    path = edit(sample, weight_packed=silent, weight_scale=put(0, (2, 0)))
    matrix = import_file(path, tmp_path / "m").model.layer("model.a")
    wanted = sample.weights["model.a"].copy()
    wanted[2, :32] = 0
    assert np.array_equal(matrix.dequantize().astype(np.float32), wanted)
    assert matrix.scales[2, 0, 0] == 0


def test_words_that_could_be_packed_in_two_ways(tmp_path):
    # Three bits: twenty codes are two words with gaps and without.
    sample = write_compressed_tensors(tmp_path, np.random.default_rng(1), bits=3, columns=20)
    with pytest.raises(ValueError, match="with and without gaps, or not at all"):
        import_file(sample.path, tmp_path / "m")


def test_groups_of_other_sizes_share_one(tmp_path):
    sample = write_gptq(
        tmp_path, np.random.default_rng(1), group_size=32, groups=3, version="gptq_v2"
    )
    group_of = np.repeat([0, 1, 2], [16, 48, 32]).astype(np.int32)
    path = edit(sample, g_idx=lambda array: group_of)
    found = detect_importer(CheckpointSource(path))
    assert found is not None
    matrix = found(CheckpointSource(path)).read("model.a")
    assert matrix.group_size == 16
    assert matrix.column_order is None


def test_a_short_group_comes_last(tmp_path):
    sample = write_gptq(tmp_path, np.random.default_rng(1), tail=16, version="gptq_v2")
    # The first group is the one of 16 columns.
    group_of = np.repeat([0, 1, 2, 3], [16, 32, 32, 32]).astype(np.int32)
    source = CheckpointSource(edit(sample, g_idx=lambda array: group_of))
    found = detect_importer(source)
    assert found is not None
    matrix = found(source).read("model.a")
    assert matrix.group_size == 32
    assert matrix.column_order is not None
    assert np.array_equal(matrix.column_order, np.roll(np.arange(112), -16))
    stored = sample.weights["model.a"]  # with 32 columns in the first groups
    scales, zeros = source.floats("model.a.scales"), source.read("model.a.qzeros").view(np.uint8)
    codes = source.read("model.a.qweight").T.copy().view(np.uint8)
    codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(stored.shape).astype(np.float32)
    zeros = np.stack([zeros & 15, zeros >> 4], axis=2).reshape(scales.shape).astype(np.float32)
    wanted = scales[group_of].T * (codes - zeros[group_of].T)
    assert np.array_equal(matrix.dequantize().astype(np.float32), wanted)


@pytest.mark.parametrize("write", [write_gptq, write_awq, write_compressed_tensors])
def test_packed_weights_without_a_configuration(tmp_path, write):
    sample = write(tmp_path, np.random.default_rng(1))
    for name in ("config.json", "quantize_config.json"):
        (sample.path / name).unlink(missing_ok=True)
    sentence = r"has packed weights, such as 'model\.a\..*', but no configuration beside them"
    with pytest.raises(ValueError, match=sentence):
        detect_importer(CheckpointSource(sample.path))


def test_a_target_inside_the_checkpoint(tmp_path):
    sample = write_gptq(tmp_path, np.random.default_rng(1))
    with pytest.raises(ValueError, match="must not replace its checkpoint"):
        import_file(sample.path, tmp_path / "model.safetensors")
    assert ModelFile(import_file(sample.path, tmp_path / "m").model.path).layers == ("model.a",)


@pytest.mark.parametrize(
    ("importer", "sentence"),
    [
        ("gtpq", "^Unknown importer 'gtpq'; known importers: gptq, awq, "),
        ("awq", "is not a checkpoint of awq$"),
    ],
)
def test_importers_that_do_not_fit(tmp_path, importer, sentence):
    sample = write_gptq(tmp_path, np.random.default_rng(1))
    with pytest.raises(ValueError, match=sentence):
        import_file(sample.path, tmp_path / "m", importer)
