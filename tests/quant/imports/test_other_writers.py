"""Checkpoints written, and weights computed, by the formats' own packages."""

import json

import numpy as np
import pytest

from lutra.quant.imports import CheckpointSource, detect_importer

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'lutra[gpu]'")
from safetensors.torch import save_file  # noqa: E402


def imported(folder, tensors, config):
    """Write a checkpoint and read its one layer."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    source = CheckpointSource(folder)
    found = detect_importer(source)
    assert found is not None
    return found(source).read("a")


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(
    ("strategy", "group_size"), [("group", 32), ("group", 64), ("channel", None)]
)
@pytest.mark.parametrize("symmetric", [True, False])
def test_packed_integers(tmp_path, bits, strategy, group_size, symmetric):
    package = pytest.importorskip("compressed_tensors")
    compressors = pytest.importorskip("compressed_tensors.compressors")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    arguments = quantization.QuantizationArgs(
        num_bits=bits,
        type="int",
        symmetric=symmetric,
        strategy=strategy,
        group_size=group_size,
    )
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments)
    compressor = compressors.BaseCompressor.get_value_from_registry("pack-quantized")
    rng = torch.Generator().manual_seed(bits)
    rows, columns = 43, 448
    groups = columns // (group_size or columns)
    half = 1 << (bits - 1)
    weights = torch.randn(rows, columns, generator=rng)
    zeros = torch.randint(-half, half, (rows, groups), generator=rng)
    if symmetric:
        zeros *= 0
    state = {
        "weight": weights,
        "weight_scale": (torch.rand(rows, groups, generator=rng) + 0.5) / half,
        "weight_zero_point": zeros.to(torch.int8),
    }
    packed = compressor.compress(state, scheme)
    wanted = compressor.decompress(packed, scheme)["weight"]
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "version": package.__version__,
        "config_groups": {"group_0": scheme.model_dump(mode="json")},
    }
    matrix = imported(tmp_path, {f"a.{name}": value for name, value in packed.items()}, config)
    assert np.array_equal(matrix.dequantize().astype(np.float32), wanted.numpy())
    assert np.unique(matrix.codes).size > 2


@pytest.mark.parametrize("kind", ["nvfp4", "mxfp4"])
def test_packed_floats(tmp_path, kind):
    compressors = pytest.importorskip("compressed_tensors.compressors")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    size = 16 if kind == "nvfp4" else 32
    arguments = quantization.QuantizationArgs(
        num_bits=4,
        type="float",
        symmetric=True,
        strategy="tensor_group" if kind == "nvfp4" else "group",
        group_size=size,
    )
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments)
    compressor = compressors.BaseCompressor.get_value_from_registry(f"{kind}-pack-quantized")
    rng = torch.Generator().manual_seed(5)
    rows, columns = 24, 256
    weights = torch.randn(rows, columns, generator=rng)
    peaks = weights.reshape(rows, -1, size).abs().amax(dim=2)
    state = {"weight": weights, "weight_zero_point": torch.zeros(1, dtype=torch.int8)}
    if kind == "nvfp4":
        state["weight_global_scale"] = torch.tensor([448 * 6 / float(weights.abs().max())])
        scales = (state["weight_global_scale"] * peaks / 6).to(torch.float8_e4m3fn)
        state["weight_scale"] = scales.to(torch.float32)
    else:
        state["weight_scale"] = 2.0 ** torch.floor(torch.log2(peaks) - 2)
    packed = compressor.compress(state, scheme)
    config = {
        "quant_method": "compressed-tensors",
        "format": f"{kind}-pack-quantized",
        "config_groups": {"group_0": scheme.model_dump(mode="json")},
    }
    matrix = imported(tmp_path, {f"a.{name}": value for name, value in packed.items()}, config)
    # The package returns bfloat16.
    wanted = compressor.decompress(packed, scheme)["weight"]
    found = torch.from_numpy(matrix.dequantize().astype(np.float32)).to(torch.bfloat16)
    assert wanted.dtype == torch.bfloat16
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_bitsandbytes(tmp_path, kind, nested, dtype):
    functional = pytest.importorskip("bitsandbytes.functional")
    rng = torch.Generator().manual_seed(6)
    weights = torch.randn(48, 320, generator=rng).to(dtype)
    packed, state = functional.quantize_4bit(
        weights, blocksize=64, compress_statistics=nested, quant_type=kind
    )
    wanted = functional.dequantize_4bit(packed, state).to(torch.float64).numpy()
    tensors = {"a.weight": packed}
    tensors |= {f"a.weight.{name}": value for name, value in state.as_dict(packed=True).items()}
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    matrix = imported(tmp_path, tensors, config)
    found = matrix.dequantize()
    scales = np.abs(wanted).reshape(48, -1, 64).max(axis=2).repeat(64, axis=1)
    # NF4 is off by its grid of 1/127, half a step at most; both by the package's own type.
    grid = {"nf4": 0.0037, "fp4": 1e-7}[kind]
    rounding = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-23}[dtype]
    assert (np.abs(found - wanted) <= (grid + rounding) * scales).all()
    assert np.array_equal(np.sign(found), np.sign(wanted))
