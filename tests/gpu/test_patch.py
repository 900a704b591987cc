from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lutra.formats import Numerics
from lutra.gpu import Linear, from_numpy, patch, to_numpy
from lutra.quant import FileError, ModelFile, ModelWriter
from lutra.sim import GoldenModel, add_bias, random_matrix


class Special(nn.Linear):
    """A subclass, of which nothing is known."""


class Model(nn.Module):
    """Layers of all kinds."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(16, 8)
        self.block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 4))
        self.again = self.block[0]
        self.special = Special(4, 4)
        self.double = nn.Linear(4, 4).double()
        self.other = nn.Linear(4, 4)
        self.unbiased = nn.Linear(4, 4, bias=False)


class Layers:
    """Stands for a model file."""

    def __init__(self, **matrices):
        self.matrices = {name.replace("__", "."): item for name, item in matrices.items()}
        self.layers = tuple(self.matrices)

    def layer(self, name):
        """Return a layer."""
        return self.matrices[name]


def matrix(rows, columns, bias=False):
    item = random_matrix("bitmod4", rows, columns, 8, seed=rows)
    return replace(item, bias=np.arange(rows, dtype=np.float32)) if bias else item


def test_every_layer_is_reported():
    model = Model().requires_grad_(False)
    file = Layers(
        up=matrix(8, 16),
        block__0=matrix(8, 8),
        block__2=matrix(4, 4),
        special=matrix(4, 4),
        double=matrix(4, 4),
        unbiased=matrix(4, 4, bias=True),
        elsewhere=matrix(4, 4),
    )
    report = patch(model, file)
    assert list(report.replaced) == ["up", "block.0", "again"]
    assert report.skipped == {
        "block.2": "its weights have shape (4, 8), and those of the model file (4, 4)",
        "special": "it is a Special, whose behaviour may differ from nn.Linear's",
        "double": "its weights are float64; give numerics for types other than float16, bfloat16, "
        "float32",
        "other": "the model file has no layer of this name",
        "unbiased": "it has no bias, and the layer of the model file has one",
    }
    assert report.unused == {
        **{name: report.skipped[name] for name in ("block.2", "special", "double", "unbiased")},
        "elsewhere": "the model has no linear layer of this name",
    }
    assert isinstance(model.up, Linear)
    assert model.block[0] is model.again is report.replaced["again"]
    assert type(model.other) is nn.Linear
    text = str(report)
    assert "replaced up: exact float64 products, because" in text
    assert "skipped other: the model file has no layer of this name" in text
    assert "unused elsewhere: the model has no linear layer of this name" in text


def test_results_are_golden_with_the_model_s_bias():
    model = Model().requires_grad_(False)
    bias = model.up.bias.clone()
    item = matrix(8, 16)
    patch(model, Layers(up=item))
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    numerics = Numerics(activation="float32")
    expected = add_bias(GoldenModel(item, numerics).run(x.numpy()), bias.numpy())
    assert np.array_equal(to_numpy(model.up(x)), expected)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_numerics_are_the_layer_s_own(name):
    model = Model().to(getattr(torch, name))
    layer = patch(model, Layers(block__0=matrix(8, 8))).replaced["block.0"]
    assert layer.numerics == Numerics(activation=name, act_width=16, output=name)
    assert layer(torch.zeros(1, 8).to(model.up.weight)).dtype == getattr(torch, name)


def test_given_numerics_and_options():
    model = Model()
    numerics = Numerics(act_width=12)
    report = patch(model, Layers(double=matrix(4, 4)), numerics, cast=True, check=True)
    layer = report.replaced["double"]
    assert (layer.numerics, layer.cast, layer.check) == (numerics, True, True)
    assert layer(torch.zeros(1, 4).double()).dtype == torch.float32


def test_names_of_one_module_with_two_layers():
    report = patch(Model(), Layers(block__0=matrix(8, 8), again=matrix(8, 8)))
    # Modules come in the order of their names.
    assert len(report.replaced) == 1
    (name,) = report.skipped.keys() & {"block.0", "again"}
    assert report.skipped[name].startswith("it is the same module as ")


def test_a_block_with_two_names():
    block = nn.ModuleDict({"fc": nn.Linear(8, 8, bias=False)})
    model = nn.ModuleDict({"a": block, "b": block})
    report = patch(model, Layers(b__fc=matrix(8, 8)))
    assert list(report.replaced) == ["a.fc", "b.fc"]
    assert block["fc"] is report.replaced["a.fc"] is report.replaced["b.fc"]
    assert not report.skipped
    assert not report.unused
    block["fc"] = nn.Linear(8, 8, bias=False)
    report = patch(model, Layers(b__fc=matrix(8, 8), a__fc=matrix(8, 8)))
    assert list(report.replaced) == ["a.fc", "b.fc"]
    assert not report.skipped
    assert report.unused == {"b.fc": "it is the same module as a.fc, but the file has both"}


def test_a_later_name_is_the_file_s():
    linear = nn.Linear(8, 8, bias=False)
    model = nn.ModuleDict({"a": linear, "b": linear})
    report = patch(model, Layers(b=matrix(8, 8)))
    assert list(report.replaced) == ["a", "b"]
    assert model["a"] is model["b"] is report.replaced["b"]


def test_a_model_without_values():
    model = Model().to("meta")
    report = patch(model, Layers(block__0=matrix(8, 8), up=matrix(8, 16)))
    assert list(report.replaced) == ["block.0", "again"]
    reason = "its bias is on the meta device, and the layer of the model file has none"
    assert report.skipped["up"] == report.unused["up"] == reason
    report = patch(model, Layers(up=matrix(8, 16, bias=True)))
    assert report.replaced["up"](torch.zeros(1, 16, device="meta")).shape == (1, 8)


def test_the_model_itself():
    linear = nn.Linear(4, 4)
    report = patch(linear, Layers(**{"": matrix(4, 4)}))
    assert report.skipped[""].startswith("it is the model itself")


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_hooks_are_not_lost(register):
    model = Model()
    getattr(model.up, register)(lambda *_: None)
    report = patch(model, Layers(up=matrix(8, 16)))
    assert report.skipped["up"] == "it has hooks, which would be lost"
    assert type(model.up) is nn.Linear


def test_a_replaced_forward_is_not_lost():
    model = Model()
    model.up.forward = torch.sin
    report = patch(model, Layers(up=matrix(8, 16)))
    assert report.skipped["up"] == "its forward has been replaced, which would be lost"
    assert type(model.up) is nn.Linear


def test_parts_of_modules_that_read_weights():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    nest = nn.ModuleDict({"a": model.linear2, "layer": model})
    file = Layers(layer__linear1=matrix(16, 8), a=matrix(8, 16), layer__self_attn__out_proj=None)
    report = patch(nest, file)
    assert not report.replaced
    reason = "it is a part of a TransformerEncoderLayer, which reads its weights itself"
    assert report.skipped["layer.linear1"] == report.skipped["a"] == reason
    assert report.skipped["layer.self_attn.out_proj"].startswith("it is a NonDynamically")


def test_too_wide_a_layer_is_reported():
    model = nn.ModuleDict({"a": nn.Linear(4096, 1)})
    wide = random_matrix("int8", 1, 4096, 128, seed=4, scale_width=16)
    report = patch(model, Layers(a=wide), Numerics(act_width="exact"))
    assert report.skipped["a"].startswith("The exact sum must fit 63 bits")


def test_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    item = matrix(8, 16)
    with ModelWriter(path) as writer:
        writer.add("up", item)
    model = Model()
    patch(model, ModelFile(path))
    assert isinstance(model.up, Linear)
    raw = bytearray(path.read_bytes())
    at = raw.index(item.row_scales.tobytes())
    raw[at : at + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(raw)
    with pytest.raises(FileError, match="Row scales must be finite"):
        patch(Model(), ModelFile(path))


def test_a_damaged_layer_leaves_the_model_as_it_was():
    class Damaged(Layers):
        def layer(self, name):
            if name == "block.2":
                raise FileError("It is damaged")
            return super().layer(name)

    model = Model()
    before = list(model.modules())
    with pytest.raises(FileError):
        patch(model, Damaged(up=matrix(8, 16), block__0=matrix(8, 8), block__2=matrix(4, 8)))
    assert list(model.modules()) == before


def test_tokens_of_a_patched_layer():
    model = Model().requires_grad_(False).half()
    item = matrix(8, 8)
    patch(model, Layers(block__0=item))
    x = from_numpy(np.eye(8, dtype=np.float16))
    numerics = Numerics(output="float16")
    expected = GoldenModel(item, numerics).run(np.eye(8, dtype=np.float16))
    assert np.array_equal(to_numpy(model.block[0](x)), expected)
