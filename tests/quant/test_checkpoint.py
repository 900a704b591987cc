import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lutra.quant import Checkpoint, FileError

TENSORS = {
    "embed_tokens.weight": np.ones((9, 4), np.float32),
    "layers.0.up.weight": np.arange(12, dtype=np.float16).reshape(3, 4),
    "layers.0.up.bias": np.array([1, 2, 3], np.float16),
    "layers.0.down.weight": np.full((4, 3), -1.5, ml_dtypes.bfloat16),
    "layers.0.norm.weight": np.ones(4, np.float32),
    "layers.1.up.weight": np.ones((3, 4), np.float32),
    "conv.weight": np.ones((2, 2, 3), np.float32),
    "table": np.ones((5, 6), np.float32),
    "ids.weight": np.ones(3, np.int64),
}


@pytest.fixture
def path(tmp_path):
    save_file(TENSORS, tmp_path / "c.safetensors")
    return tmp_path / "c.safetensors"


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (None, {"layers.0.up.weight", "layers.0.down.weight", "layers.1.up.weight"}),
        (["layers.0.*"], {"layers.0.up.weight", "layers.0.down.weight"}),
        (["*.up"], {"layers.0.up.weight", "layers.1.up.weight"}),
        (["*.up.weight", "layers.1.*"], {"layers.0.up.weight", "layers.1.up.weight"}),
        (["table", "embed_tokens"], {"table", "embed_tokens.weight"}),
        (["layers.[1-9].up"], {"layers.1.up.weight"}),
    ],
)
def test_selection(path, patterns, names):
    chosen = Checkpoint(path).select(patterns)
    assert set(chosen) == names
    assert len(chosen) == len(names)
    order = Checkpoint(path).tensor_names
    assert list(chosen) == sorted(chosen, key=order.index)


def test_layers_come_as_float32_with_their_biases(path):
    layers = {layer.name: layer for layer in Checkpoint(path).layers()}
    assert set(layers) == {"layers.0.up", "layers.0.down", "layers.1.up"}
    for name, layer in layers.items():
        assert layer.weights.dtype == np.float32
        assert np.array_equal(layer.weights, TENSORS[f"{name}.weight"].astype(np.float32))
    bias = layers["layers.0.up"].bias
    assert bias is not None
    assert bias.dtype == np.float32
    assert bias.tolist() == [1, 2, 3]
    assert layers["layers.0.down"].bias is None


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_number_is_read_exactly(tmp_path, dtype):
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 1 << 16, (64, 64), dtype=np.uint16)
    values = bits.view(np.float16 if dtype is np.float16 else ml_dtypes.bfloat16).astype(dtype)
    save_file({"a.weight": values}, tmp_path / "c.safetensors")
    read = Checkpoint(tmp_path / "c.safetensors").read("a.weight").weights
    wanted = values.astype(np.float32)
    assert np.array_equal(read, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(read), np.signbit(wanted))


@pytest.mark.parametrize(
    ("patterns", "sentence"),
    [
        (["*.gate"], r"^Pattern '\*\.gate' matches no tensor of .*; it has .*layers\.0"),
        (["*.up", "nothing"], "Pattern 'nothing' matches no tensor"),
        (["*.UP"], "matches no tensor"),
        (["layers.0.norm"], r"'layers.0.norm.weight' must be two-dimensional, not .*\(4,\)"),
        (["*norm*"], r"'layers.0.norm.weight' must be two-dimensional"),
        (["conv"], r"'conv.weight' must be two-dimensional, not of shape \(2, 2, 3\)"),
        (["*.weight"], r"'conv.weight' must be two-dimensional"),
    ],
)
def test_patterns_that_choose_nothing_usable(path, patterns, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        Checkpoint(path).select(patterns)
    assert "\n" not in str(caught.value)


def test_no_layer_under_the_usual_name(tmp_path):
    save_file({"table": np.ones((2, 2), np.float32)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"named \*\.weight; give a pattern .*: table$"):
        Checkpoint(tmp_path / "c.safetensors").select()


def test_a_type_that_cannot_be_quantised(tmp_path):
    save_file({"a.weight": np.ones((2, 2), np.int8)}, tmp_path / "c.safetensors")
    for patterns in (None, ["a"]):
        with pytest.raises(FileError, match=r"'a\.weight' of .* has type I8; only F32, F16, BF16"):
            Checkpoint(tmp_path / "c.safetensors").select(patterns)


def test_a_bias_of_another_length(tmp_path):
    tensors = {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.ones(3, np.float32)}
    save_file(tensors, tmp_path / "c.safetensors")
    with pytest.raises(FileError, match=r"'a\.bias' must have shape \(2,\).*not \(3,\)"):
        Checkpoint(tmp_path / "c.safetensors").read("a.weight")


def test_a_vector_is_no_layer(path):
    with pytest.raises(FileError, match="must be two-dimensional"):
        Checkpoint(path).read("layers.0.norm.weight")
    with pytest.raises(FileError, match="has no tensor"):
        Checkpoint(path).read("layers.7.up.weight")


def test_files_that_are_not_checkpoints(tmp_path, path):
    with pytest.raises(FileError, match="There is no file"):
        Checkpoint(tmp_path / "none")
    (tmp_path / "text").write_text("weights = [1, 2, 3]\n")
    with pytest.raises(FileError, match="is not a safetensors file"):
        Checkpoint(tmp_path / "text")
    (tmp_path / "part").write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="is truncated: it should have"):
        Checkpoint(tmp_path / "part")


def test_a_file_that_shrinks_while_it_is_read(path):
    checkpoint = Checkpoint(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileError, match="has become shorter"):
        list(checkpoint.layers(["*.up", "*.down", "table", "embed_tokens"]))


def test_an_empty_checkpoint(tmp_path):
    save_file({}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="no tensors"):
        Checkpoint(tmp_path / "c.safetensors").select()
