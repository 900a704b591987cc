import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lutra.formats import FLOATS, Numerics
from lutra.gpu import Linear, from_numpy, step_exponents, to_numpy
from lutra.quant import ModelFile, ModelWriter
from lutra.sim import (
    DTYPES,
    GoldenModel,
    add_bias,
    adversarial_tokens,
    nonfinite_tokens,
    random_matrix,
    scale_tokens,
)


def bits(y):
    return y.view(f"u{y.itemsize}")


def golden(matrix, numerics, x):
    return GoldenModel(matrix, numerics).run(x, nonfinite="nan")


def tokens(numerics, columns):
    found = adversarial_tokens(numerics, columns) | nonfinite_tokens(numerics, columns)
    return np.stack(list(found.values()))


@pytest.mark.parametrize("name", FLOATS)
def test_equals_golden_in_any_shape(name):
    numerics = Numerics(activation=name, output=name)
    matrix = random_matrix("bitmod4", 6, 40, 16, seed=1)
    x = tokens(numerics, 40)[:24]
    expected = golden(matrix, numerics, x)
    layer = Linear(matrix, numerics)
    seen = to_numpy(layer(from_numpy(x).reshape(2, 3, 4, 40)))
    assert seen.shape == (2, 3, 4, 6)
    assert np.array_equal(bits(seen).reshape(24, 6), bits(expected))
    assert np.array_equal(bits(to_numpy(layer(from_numpy(x[0])))), bits(expected)[0])
    transposed = from_numpy(x).reshape(4, 6, 40).transpose(0, 1)
    seen = to_numpy(layer(transposed)).swapaxes(0, 1)
    assert np.array_equal(bits(seen), bits(expected).reshape(4, 6, 6))


@pytest.mark.parametrize("output", FLOATS)
def test_bias_and_token_scales_are_the_host_s(output):
    rng = np.random.default_rng(1)
    numerics = Numerics(activation="int8", act_width=8, output=output)
    plain = random_matrix("int4", 7, 40, 16, seed=1)
    bias = rng.standard_normal(7, dtype=np.float32) * 100
    matrix = replace(plain, bias=bias)
    x = tokens(numerics, 40)
    scales = rng.standard_normal(len(x), dtype=np.float32)
    scales[:2] = 1e38, 1e-38
    with np.errstate(over="ignore"):
        wide = golden(matrix, replace(numerics, output="float32"), x)
        y = add_bias(scale_tokens(wide, scales), bias)
        expected = y.astype(DTYPES[output])
    seen = to_numpy(Linear(matrix, numerics)(from_numpy(x), from_numpy(scales)))
    assert np.array_equal(bits(seen), bits(expected))
    with np.errstate(over="ignore"):
        expected = add_bias(wide, bias).astype(DTYPES[output])
    assert np.array_equal(bits(to_numpy(Linear(matrix, numerics)(from_numpy(x)))), bits(expected))


def test_one_nan_with_bias_as_without():
    numerics = Numerics(output="float16")
    x = from_numpy(np.stack(list(nonfinite_tokens(numerics, 8).values())))
    matrix = random_matrix("int4", 3, 8, 8, seed=1)
    for bias in (None, -torch.ones(3)):
        seen = to_numpy(Linear(matrix, numerics, bias=bias)(x))
        assert (bits(seen) == FLOATS["float16"].quiet_nan).all()


def test_takes_a_layer_of_a_model_file(tmp_path):
    path = tmp_path / "model.safetensors"
    bias = np.arange(5, dtype=np.float32)
    matrix = replace(random_matrix("bitmod3", 5, 30, 8, seed=1), bias=bias)
    with ModelWriter(path) as writer:
        writer.add("mlp.up", matrix)
    layer = Linear(ModelFile(path).layer("mlp.up"), Numerics(activation="float32"))
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    expected = add_bias(golden(matrix, layer.numerics, x.numpy()), bias)
    assert np.array_equal(bits(to_numpy(layer(x))), bits(expected))


def test_cast_rounds_as_numpy_does():
    matrix = random_matrix("int4", 5, 64, 32, seed=1)
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)) * 100
    layer = Linear(matrix, Numerics(), cast=True)
    expected = golden(matrix, Numerics(), x.numpy().astype(np.float16))
    assert np.array_equal(bits(to_numpy(layer(x))), bits(expected))
    # A tie of float16 and a little more, which is a tie once it has been rounded to float32.
    wide = x.half().double() * (1 + 2.0**-11 + 2.0**-40)
    assert (wide.float().half().numpy() != wide.numpy().astype(np.float16)).any()
    expected = golden(matrix, Numerics(), wide.numpy().astype(np.float16))
    assert np.array_equal(bits(to_numpy(layer(wide))), bits(expected))
    numerics = Numerics(activation="float32")
    expected = golden(matrix, numerics, wide.numpy().astype(np.float32))
    assert np.array_equal(bits(to_numpy(Linear(matrix, numerics, cast=True)(wide))), bits(expected))
    with pytest.raises(ValueError, match=r"^Activations must be a matrix of float16, not float32"):
        Linear(matrix)(x)
    with pytest.raises(ValueError, match=r"^Activations must be a matrix of float16, not int32"):
        layer(x.int())


def test_type_changes_and_copies_change_nothing():
    matrix = random_matrix("bitmod4", 5, 64, 32, seed=1)
    layer = Linear(matrix, bias=torch.full((5,), 1e-3))
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)).half()
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(layer.half().double().to("cpu", torch.bfloat16).eval()(x), expected)
    assert not layer.state_dict()
    assert not list(layer.parameters())


@pytest.mark.parametrize("bias", [None, torch.full((5,), 1e-3)])
def test_comes_back_from_the_meta_device(bias):
    matrix = random_matrix("bitmod4", 5, 64, 32, seed=1)
    layer = Linear(matrix, bias=bias)
    x = torch.ones(1, 64).half()
    expected = layer(x)
    assert layer.to("meta")(x.to("meta")).shape == (1, 5)
    assert torch.equal(layer.to_empty(device="cpu")(x), expected)


@pytest.mark.parametrize("bias", [None, torch.full((5,), 1e-3)])
def test_pickles_hold_nothing_derived(bias):
    matrix = random_matrix("bitmod4", 5, 4096, 32, seed=1)
    layer = Linear(matrix, Numerics(act_width=12), cast=True, bias=bias).eval()
    file = io.BytesIO()
    torch.save(layer, file)
    bare = io.BytesIO()
    torch.save(matrix, bare)
    assert len(file.getvalue()) < len(bare.getvalue()) + 8192
    x = torch.randn(3, 4096, generator=torch.Generator().manual_seed(1))
    for where in (None, "cpu", "meta"):
        file.seek(0)
        loaded = torch.load(file, weights_only=False, map_location=where)
        assert repr(loaded) == repr(copy.deepcopy(layer).to(where or "cpu"))
        assert loaded.packed.tensors[0].device.type == (where or "cpu")
        assert not loaded.training
        assert torch.equal(loaded.to_empty(device="cpu")(x), layer(x))


def test_shards_add_up():
    numerics = Numerics()
    matrix = random_matrix("int4", 5, 64, 32, seed=1)
    half = replace(
        matrix,
        codes=matrix.codes[:, :32],
        format_ids=matrix.format_ids[:, :1],
        scales=matrix.scales[:, :1],
        zeros=matrix.zeros[:, :1],
    )
    x = from_numpy(np.stack(list(adversarial_tokens(numerics, 64).values())))
    x[:, 32:] = 0
    exponent = step_exponents(x, numerics)
    whole, part = Linear(matrix).sums(x), Linear(half).sums(x[:, :32], exponent)
    assert all(torch.equal(*pair) for pair in zip(whole, part, strict=True))


def test_compiles_whole():
    layer = Linear(random_matrix("int4", 5, 64, 32, seed=1), Numerics(output="float16"))
    model = nn.Sequential(layer, nn.ReLU())
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)).half()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), model(x))


@pytest.mark.parametrize("bias", [None, torch.ones(5)])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_is_refused_and_not_dropped(bias, compiled):
    layer = Linear(random_matrix("int4", 5, 64, 32, seed=1), bias=bias)
    run = torch.compile(layer, backend="aot_eager", fullgraph=True) if compiled else layer
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1)).half()
    expected = layer(x)
    assert not expected.requires_grad
    x.requires_grad_()
    y = run(x)
    assert torch.equal(y, expected)
    with pytest.raises(RuntimeError, match=r"There is no gradient through a quantised layer of "):
        (2 * y).sum().backward()
    with torch.no_grad():
        assert not run(x).requires_grad


def test_token_scales_have_no_gradient_either():
    layer = Linear(
        random_matrix("int4", 5, 64, 32, seed=1), Numerics(activation="int8", act_width=8)
    )
    scales = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"There is no gradient through a quantised layer of "):
        layer(torch.ones(2, 64, dtype=torch.int8), scales).sum().backward()


def test_repr_names_the_path():
    text = repr(Linear(random_matrix("bitmod4", 5, 64, 32, seed=1)))
    for part in (
        "in_features=64, out_features=5, bias=False",
        "formats=bitmod4_p5, bitmod4_m5, bitmod4_p8, bitmod4_m8, group_size=32",
        "activation=float16, act_width=16, output=float32",
        "path=exact float64 products, because the kernels need a GPU, and the layer is on cpu",
    ):
        assert part in text


def test_bad_input():
    matrix = random_matrix("int4", 2, 8, 8, seed=1)
    layer = Linear(matrix, check=True)
    for shape in ((3,), (2, 7), ()):
        with pytest.raises(ValueError, match=r"^Activations must have 8 elements a token, "):
            layer(torch.zeros(shape).half())
    x = torch.zeros(2, 3, 8).half()
    x[1, 2, 4] = float("nan")
    with pytest.raises(ValueError, match=r"^Activations must be finite; element 4 of token 5 is"):
        layer(x)
    with pytest.raises(ValueError, match=r"^The bias must be float32 of shape \(2,\), not float16"):
        Linear(matrix, bias=torch.zeros(2).half())
    with pytest.raises(ValueError, match=r"^The bias must be finite"):
        Linear(matrix, bias=torch.full((2,), float("inf")))
    wrong: Any = [0.0, 0.0]
    for bias, sentence in (
        (wrong, r"^The bias must be a float32 tensor of shape \(2,\), not a list$"),
        (torch.zeros(2, device="meta"), "^The bias must have values, which there are none of on "),
    ):
        with pytest.raises(ValueError, match=sentence):
            Linear(matrix, bias=bias)
    with pytest.raises(ValueError, match=r"^Output type must be a float type for a Linear"):
        Linear(matrix, Numerics(output="int"))
    wide = random_matrix("int8", 1, 4096, 128, seed=4, scale_width=16)
    with pytest.raises(ValueError, match=r"^The exact sum must fit 63 bits, but may need"):
        Linear(wide, Numerics(act_width="exact"))


def test_columns_in_another_order():
    order = np.random.default_rng(5).permutation(37).astype(np.int32)
    matrix = replace(random_matrix("int4", 6, 37, 16, seed=2), column_order=order)
    numerics = Numerics(act_width=12)
    x = tokens(numerics, 37)
    linear = Linear(matrix, numerics)
    assert np.array_equal(bits(to_numpy(linear(from_numpy(x)))), bits(golden(matrix, numerics, x)))
    again = copy.deepcopy(linear)
    assert np.array_equal(bits(to_numpy(again(from_numpy(x)))), bits(golden(matrix, numerics, x)))
