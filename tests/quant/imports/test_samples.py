"""Every importer against the formats' own formulas, over small random checkpoints."""

import ml_dtypes
import numpy as np
import pytest

from lutra.formats import ValueFormat
from lutra.quant.imports import CheckpointSource, Importer, detect_importer
from lutra.sim.sample_checkpoints import (
    SAMPLES,
    SampleCheckpoint,
    write_awq,
    write_bitsandbytes,
    write_compressed_floats,
    write_compressed_tensors,
    write_gpt_oss,
    write_gptq,
    write_modelopt,
)


def opened(sample: SampleCheckpoint) -> Importer:
    source = CheckpointSource(sample.path)
    found = detect_importer(source)
    assert found is not None
    return found(source)


def check(sample: SampleCheckpoint) -> None:
    """Compare in float32, the type of the formulas: the import itself rounds nothing."""
    importer = opened(sample)
    assert importer.layers == tuple(sample.weights)
    assert importer.left_out == sample.left_out
    for name, wanted in sample.weights.items():
        matrix = importer.read(name)
        assert np.array_equal(matrix.dequantize().astype(np.float32), wanted)
        assert importer.size(name) == wanted.size
        bias = sample.biases.get(name)
        if bias is None:
            assert matrix.bias is None
        else:
            assert matrix.bias is not None
            assert np.array_equal(matrix.bias, bias)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("seed", range(5))
def test_samples(tmp_path, name, seed):
    check(SAMPLES[name](tmp_path, np.random.default_rng(seed)))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("act_order", [False, True])
def test_gptq(tmp_path, bits, version, act_order):
    rng = np.random.default_rng(bits)
    for at, (symmetric, tail) in enumerate([(True, 0), (False, 0), (False, 32)]):
        check(
            write_gptq(
                tmp_path / str(at),
                rng,
                bits=bits,
                group_size=64,
                tail=tail,
                act_order=act_order,
                symmetric=symmetric,
                version=version,
            )
        )


@pytest.mark.parametrize("scale_type", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_types_of_scales(tmp_path, scale_type):
    rng = np.random.default_rng(3)
    check(write_gptq(tmp_path / "g", rng, scale_type=scale_type))
    check(write_awq(tmp_path / "a", rng, scale_type=scale_type))
    check(write_compressed_tensors(tmp_path / "c", rng, scale_type=scale_type))


def test_gptq_of_whole_rows(tmp_path):
    rng = np.random.default_rng(4)
    sample = write_gptq(tmp_path, rng, group_size=-1)
    check(sample)
    assert opened(sample).read("model.a").groups == 1


def test_symmetric_layers_need_no_zero_points(tmp_path):
    rng = np.random.default_rng(5)
    for sample in (
        write_gptq(tmp_path / "g", rng, symmetric=True),
        write_compressed_tensors(tmp_path / "c", rng),
    ):
        assert [item.name for item in opened(sample).read("model.a").members] == ["int4"]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(
    ("strategy", "symmetric"),
    # The format does not pack zero-points of tensors.
    [("group", True), ("group", False), ("channel", True), ("channel", False), ("tensor", True)],
)
def test_compressed_tensors(tmp_path, bits, strategy, symmetric):
    rng = np.random.default_rng(bits)
    for padded in (False, True):
        sample = write_compressed_tensors(
            tmp_path / str(padded),
            rng,
            bits=bits,
            strategy=strategy,
            columns=332,
            rows=44,
            symmetric=symmetric,
            padded=padded,
        )
        check(sample)


def test_compressed_tensors_in_activation_order(tmp_path):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        check(
            write_compressed_tensors(
                tmp_path / str(seed), rng, columns=96, act_order=True, symmetric=seed % 2 == 0
            )
        )


@pytest.mark.parametrize("kind", ["nvfp4", "mxfp4"])
def test_compressed_floats(tmp_path, kind):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        check(write_compressed_floats(tmp_path / str(seed), rng, kind=kind, rows=9, columns=160))


def test_modelopt_multiplies(tmp_path):
    for seed in range(8):
        check(write_modelopt(tmp_path / str(seed), np.random.default_rng(seed), columns=128))


def test_experts_are_read_one_by_one(tmp_path):
    check(write_gpt_oss(tmp_path, np.random.default_rng(1), experts=5, rows=3, groups=2))


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes(tmp_path, kind, nested):
    rng = np.random.default_rng(len(kind) + nested)
    shapes = [(6, 128, 64), (3, 96, 64), (40, 32, 64), (2, 4096, 64), (1, 2048, 4096), (5, 72, 64)]
    for at, (rows, columns, block) in enumerate(shapes):
        check(
            write_bitsandbytes(
                tmp_path / str(at),
                rng,
                kind=kind,
                rows=rows,
                columns=columns,
                block=block,
                nested=nested,
                storage=np.float16 if at == 1 else np.uint8,
            )
        )


def test_scales_of_float16_stay_narrow(tmp_path):
    sample = write_bitsandbytes(tmp_path, np.random.default_rng(1))
    # 11 bits and a spread of six places.
    assert opened(sample).read("model.a").scale_width <= 17


@pytest.mark.parametrize(("kind", "notes"), [("nf4", 1), ("fp4", 0)])
def test_values_of_nf4_are_noted(tmp_path, kind, notes):
    importer = opened(write_bitsandbytes(tmp_path, np.random.default_rng(1), kind=kind))
    for _ in range(2):
        importer.read("model.a")
    assert len(importer.notes) == notes
    assert all("values are on a grid of 1/127" in note for note in importer.notes)


@pytest.mark.parametrize("divides", [False, True])
def test_scales_of_nvfp4_that_lie_far_apart(tmp_path, divides):
    writer = write_compressed_floats if divides else write_modelopt
    sample = writer(tmp_path, np.random.default_rng(1))
    path = sample.path / "model.safetensors"
    importer = opened(sample)
    stored = importer.source.read("model.a.weight_scale")
    raw, changed = path.read_bytes(), stored.copy()
    changed[2, :2] = 0x7E, 0x01  # 448 and 2^-9
    assert raw.count(stored.tobytes()) == 1
    path.write_bytes(raw.replace(stored.tobytes(), changed.tobytes()))
    importer = opened(sample)
    matrix = importer.read("model.a")
    assert len(importer.notes) == 1
    assert importer.notes[0].startswith("Layer 'model.a': scales of a row lie far apart")

    name = "weight_global_scale" if divides else "weight_scale_2"
    factor = importer.source.floats(f"model.a.{name}").reshape(-1)[0]
    common = np.float32(1) / factor if divides else factor
    scales = changed.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    (item,) = matrix.members
    assert isinstance(item, ValueFormat)
    values = np.array(item.values)[matrix.codes] / 2
    wanted = values * np.repeat(scales, 16, axis=1) * np.float64(common)
    assert np.array_equal(matrix.dequantize(), wanted)
    defined = scales.astype(np.float32) / factor if divides else scales.astype(np.float32) * factor
    defined = (np.repeat(defined, 16, axis=1) * values).astype(np.float32)
    assert (np.abs(matrix.dequantize() - defined) <= 2 * np.abs(np.spacing(defined))).all()
