"""Importers of other containers against the formats' own formulas."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest

from lutra.quant.imports import CheckpointSource, Importer, detect_importer, import_file
from lutra.sim.more_sample_checkpoints import (
    MORE_SAMPLES,
    write_anybcq,
    write_bitnet,
    write_gguf,
    write_hqq,
    write_lut_gemm,
    write_squeezellm,
)
from lutra.sim.sample_checkpoints import SampleCheckpoint


def opened(sample: SampleCheckpoint) -> Importer:
    source = CheckpointSource(sample.path)
    found = detect_importer(source)
    assert found is not None
    return found(source)


def check(sample: SampleCheckpoint, importer: Importer | None = None) -> None:
    importer = importer or opened(sample)
    assert importer.layers == tuple(sample.weights)
    assert importer.left_out == sample.left_out
    for name, wanted in sample.weights.items():
        matrix = importer.read(name)
        assert np.array_equal(matrix.dequantize().astype(np.float32), wanted)
        assert importer.size(name) == wanted.size
        bias = sample.biases.get(name)
        assert (matrix.bias is None) == (bias is None)
        if bias is not None:
            assert np.array_equal(np.asarray(matrix.bias), bias)


@pytest.mark.parametrize("name", MORE_SAMPLES)
@pytest.mark.parametrize("seed", range(4))
def test_samples(tmp_path, name, seed):
    check(MORE_SAMPLES[name](tmp_path, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", MORE_SAMPLES)
def test_model_files(tmp_path, name):
    sample = MORE_SAMPLES[name](tmp_path, np.random.default_rng(9))
    made = import_file(sample.path, tmp_path / "model.lutra.safetensors")
    assert made.importer == name.split(",")[0].replace("anybcq", "bcq").replace("lut-gemm", "bcq")
    for layer, wanted in sample.weights.items():
        assert np.array_equal(made.model.layer(layer).dequantize().astype(np.float32), wanted)


@pytest.mark.parametrize("bits", [1, 1.58, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group_size", [None, 32, 64])
def test_hqq(tmp_path, bits, group_size):
    rng = np.random.default_rng(round(10 * bits))
    write = partial(write_hqq, rng=rng, bits=bits, group_size=group_size)
    for at, dtype in enumerate((np.float16, ml_dtypes.bfloat16)):
        for as_floats in (False, True):
            check(write(tmp_path / f"{at}{as_floats}", dtype=dtype, as_floats=as_floats))
    check(write(tmp_path / "1", rows=24, columns=192))


def test_groups_of_hqq_that_go_across_rows(tmp_path):
    sample = write_hqq(tmp_path, np.random.default_rng(1), rows=16, columns=48, group_size=32)
    check(sample)
    assert opened(sample).read(next(iter(sample.weights))).group_size == 16


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("full", [0, 3])
def test_squeezellm(tmp_path, bits, sparse, full):
    rng = np.random.default_rng(bits + full)
    for columns in (32, 96):
        sample = write_squeezellm(
            tmp_path / str(columns), rng, bits=bits, columns=columns, sparse=sparse, full=full
        )
        check(sample)
        matrix = opened(sample).read(next(iter(sample.weights)))
        assert (matrix.outliers is None) == (not sparse and not full)


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_bitnet(tmp_path, linear_class):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        check(write_bitnet(tmp_path / str(seed), rng, linear_class=linear_class))


@pytest.mark.parametrize("precision", [2, 3, 4])
def test_every_precision_of_anybcq(tmp_path, precision):
    sample = write_anybcq(tmp_path, np.random.default_rng(precision), precision=precision)
    importer = opened(sample)
    importer.choose_precision(precision)
    check(sample, importer)
    made = import_file(sample.path, tmp_path / "m.lutra.safetensors", precision=precision)
    (layer,) = sample.weights
    assert made.model.record(layer).format == f"bcq{precision}_asym"


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("offset", [False, True])
def test_lut_gemm(tmp_path, bits, offset):
    rng = np.random.default_rng(bits)
    for groups in (1, 3, 6):
        folder = tmp_path / str(groups)
        check(write_lut_gemm(folder, rng, bits=bits, offset=offset, groups=groups))


def test_a_precision_of_others_is_refused(tmp_path):
    sample = write_gguf(tmp_path, np.random.default_rng(1))
    with pytest.raises(ValueError, match="has one precision, so that none can be chosen"):
        import_file(sample.path, tmp_path / "m.lutra.safetensors", precision=4)
