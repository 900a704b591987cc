"""Checkpoints written, and weights computed, by HQQ and by Transformers."""

import json

import numpy as np
import pytest

from lutra.quant.imports import CheckpointSource, detect_importer

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'lutra[gpu]'")
from safetensors.torch import save_file  # noqa: E402


def imported(path):
    source = CheckpointSource(path)
    found = detect_importer(source)
    assert found is not None
    return found(source).read("a")


def exactly(quantizer, layer):
    """Return the weights that a layer of HQQ stands for, without HQQ's rounding to float16."""
    packed, meta = layer.W_q.data, layer.meta
    if meta["view_as_float"]:
        packed = packed.view(meta["unpack_view_dtype"])
    codes = quantizer.unpack[meta["packing"]](packed, dtype=torch.float64)
    codes = codes[: len(meta["scale"])]
    weights = (codes - meta["zero"].double()) * meta["scale"].double()
    return weights.reshape(meta["shape"]).numpy()


@pytest.mark.parametrize("bits", [8, 6, 5, 4, 3, 2, 1.58, 1])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("group_size", [64, None])
@pytest.mark.parametrize("as_floats", [False, True])
def test_hqq(tmp_path, bits, dtype, group_size, as_floats):
    quantize = pytest.importorskip("hqq.core.quantize", reason="needs HQQ: pip install hqq")
    if bits == 3 and group_size is None:
        pytest.skip("HQQ itself cannot")
    generator = torch.Generator().manual_seed(round(bits * 100) + 7)
    linear = torch.nn.Linear(192, 80)
    linear.weight.data = torch.randn(80, 192, generator=generator) * 0.05
    config = quantize.BaseQuantizeConfig(
        nbits=bits, group_size=group_size, axis=1, view_as_float=as_floats
    )
    layer = quantize.HQQLinear(
        linear, config, compute_dtype=getattr(torch, dtype), device="cpu", del_orig=False
    )
    tensors = {
        f"a.{name}": value.data.contiguous()
        for name, value in layer.state_dict().items()
        if value is not None
    }
    save_file(tensors, tmp_path / "m.safetensors")
    expected = exactly(quantize.Quantizer, layer)
    matrix = imported(tmp_path / "m.safetensors")
    assert np.array_equal(matrix.dequantize(), expected)
    assert np.array_equal(np.asarray(matrix.bias), layer.bias.detach().float().numpy())
    layer.encoded_state_dict = False
    torch.save({"a": layer.state_dict()}, tmp_path / "qmodel.pt")
    assert np.array_equal(imported(tmp_path / "qmodel.pt").dequantize(), expected)


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_bitnet(tmp_path, linear_class):
    bitnet = pytest.importorskip(
        "transformers.integrations.bitnet", reason="needs Transformers: pip install transformers"
    )
    generator = torch.Generator().manual_seed(1)
    ternary = torch.randint(-1, 2, (12, 32), generator=generator)
    packed = bitnet.pack_weights(ternary.clone())
    scale = torch.tensor([1.7], dtype=torch.bfloat16)
    save_file({"a.weight": packed, "a.weight_scale": scale}, tmp_path / "model.safetensors")
    config = {"quant_method": "bitnet", "linear_class": linear_class}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config}))
    found = torch.from_numpy(imported(tmp_path).dequantize())
    # An input that is exact in eight bits, so that the layer rounds none of its elements.
    inputs = torch.randint(-127, 128, (3, 32), generator=generator).float()
    inputs[:, 0] = 127
    layer = (bitnet.BitLinear if linear_class == "bitlinear" else bitnet.AutoBitLinear)(
        32, 12, bias=False, dtype=torch.float32
    )
    weights = packed if linear_class == "bitlinear" else ternary.float()
    layer.weight = torch.nn.Parameter(weights, requires_grad=False)
    layer.weight_scale = scale.float()
    with torch.compiler.set_stance("force_eager"):
        outputs = layer.forward(inputs).double()
    assert torch.allclose(inputs.double() @ found.T, outputs, rtol=2**-20, atol=0)
