"""Sentences of the importers of HQQ, SqueezeLLM, BitNet and binary coding."""

import json

import numpy as np
import pytest

from lutra.quant import FileError
from lutra.quant.imports import CheckpointSource, detect_importer
from lutra.sim.more_sample_checkpoints import (
    write_anybcq,
    write_bitnet,
    write_hqq,
    write_lut_gemm,
    write_squeezellm,
)
from lutra.sim.sample_checkpoints import write_safetensors

torch = pytest.importorskip("torch")

UP = "model.layers.0.mlp.up_proj"
Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"


def read(path, layer=None):
    source = CheckpointSource(path)
    found = detect_importer(source)
    assert found is not None
    importer = found(source)
    return importer.read(layer or importer.layers[0])


def letters(text):
    return np.frombuffer(text.encode(), np.uint8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"axis": np.uint8(0)}, r"along the outputs \(axis=0\), but Lutra's have to be along the"),
        ({"axis": np.uint8(2)}, "HQQ's axis must be 0 or 1, not 2"),
        ({"nbits": np.uint8(7)}, "codes must have 8, 6, 5, 4, 3, 2, 1.58, 1 bits, not 7"),
        ({"nbits": None}, "HQQ's nbits is missing"),
        ({"nbits": np.float32(np.nan)}, "HQQ's nbits must be a number, not nan"),
        ({"nbits": np.zeros(2, np.uint8)}, "must be one number, not of shape"),
        ({"packing": letters("4bit_u9")}, "of 4 bits must be packed as one of 8bit_u8, 4bit_u8, "),
        ({"packing": letters("2bit_u8")}, "of 4 bits must be packed as one of .*, not '2bit_u8'"),
        ({"packing": np.zeros(99, np.uint8)}, "packing' must be a word, not U8"),
        ({"packing": letters("3bit_32"), "nbits": np.uint8(3)}, r"W_q' must be I32 of shape \(4, "),
        ({"channel_wise": np.uint8(0)}, "one scale for all of the layer"),
        ({"group_size": np.uint8(33)}, "group_size must divide the weights, .* not be 33"),
        ({"group_size": np.uint8(0)}, "group_size must divide the weights, .* not be 0"),
        ({"shape": np.array([16, 65])}, "group_size must divide the weights"),
        ({"shape": np.array([16, 128])}, r"W_q' must be U8 of shape \(32, 32\), not U8 of shape"),
        ({"shape": np.array([1 << 40, 1 << 40])}, "W_q' must be U8 of shape"),
        ({"shape": np.array([-16, -64])}, r"HQQ's shape must be two sizes, not \[-16, -64\]"),
        ({"shape": np.array([16, 64, 1])}, r"shape' must be I64 or I32 of shape \(2,\)"),
        ({"shape": None}, "HQQ's shape must be two sizes, not None"),
        ({"scale": np.ones((31, 1), np.float16)}, r"must be of shape \(32, 1\), not \(31, 1\)"),
        ({"zero": np.full((32, 1), np.inf, np.float16)}, "must be of finite numbers"),
        ({"scale": np.full((32, 1), np.nan, np.float16)}, "must be of finite numbers"),
        ({"zero": None}, "has no tensor '.*zero'"),
        ({"W_q": np.zeros((16, 32), np.float32)}, "cannot be .* U8"),
        ({"W_q": np.zeros((16, 32), np.int8)}, "must be U8 of shape"),
        ({"bias": np.zeros(3, np.float16)}, "must be of shape"),
        ({"quant_scale": np.uint8(1)}, "HQQ's meta_scale.nbits is missing"),
    ],
)
def test_hqq(tmp_path, changes, sentence):
    sample = write_hqq(tmp_path, np.random.default_rng(1), changes=changes)
    with pytest.raises(ValueError, match=f"^Layer '{UP}': .*{sentence}"):
        read(sample.path)


def test_hqq_with_more_bits_than_can_be_had(tmp_path):
    sample = write_hqq(tmp_path / "4", np.random.default_rng(1), dtype=np.float32)
    with pytest.raises(ValueError, match=rf"^Layer '{UP}': Scales of row 0 need \d\d bits as int"):
        read(sample.path)
    sample = write_hqq(
        tmp_path / "1",
        np.random.default_rng(1),
        bits=1,
        dtype=np.float32,
        changes={"zero": np.full((32, 1), 2.0**-40, np.float32)},
    )
    with pytest.raises(ValueError, match="need more than 31 bits"):
        read(sample.path)


def test_hqq_with_codes_beyond_its_bits(tmp_path):
    codes = np.full((32, 32), 32, np.uint8)
    sample = write_hqq(tmp_path, np.random.default_rng(1), bits=5, changes={"W_q": codes})
    with pytest.raises(FileError, match="W_q' has codes of more than 5 bits"):
        read(sample.path)


def test_hqq_with_groups_of_no_common_size(tmp_path):
    sample = write_hqq(tmp_path, np.random.default_rng(1), rows=32, columns=36, group_size=32)
    with pytest.raises(FileError, match="Groups of 32 weights go across rows of 36"):
        read(sample.path)


def test_hqq_with_rows_that_do_not_fill_its_bytes(tmp_path):
    sample = write_hqq(tmp_path, np.random.default_rng(1), bits=1, rows=12, columns=32)
    with pytest.raises(FileError, match="2 packed rows of 8 codes each cannot be 12 rows of codes"):
        read(sample.path)


def hqq_by_hand(path, *, quantised, nested=True, stacked=False, by_columns=False):
    """Two rows of two groups of 8 codes with scales and zero-points as HQQ once quantised them."""
    meta = {
        "nbits": 4,
        "group_size": 8,
        "shape": torch.Size([2, 16]),
        "axis": 1,
        "packing": "4bit_u8",
        "unpack_view_dtype": torch.uint8,
        "view_as_float": False,
        "quant_scale": False,
        "quant_zero": quantised,
        "compute_dtype": torch.float16,
        "scale": torch.tensor([[0.5], [0.25], [2.0], [1.0]], dtype=torch.float16),
        "zero": torch.tensor([[7.5], [8.0], [6.25], [0.0]], dtype=torch.float16),
    }
    if quantised:
        del meta["zero"]
        meta["zero_q"] = torch.tensor([[3], [200], [0], [255]], dtype=torch.uint8)
        meta["meta_zero"] = {
            "nbits": 8,
            "group_size": None,
            "shape": torch.Size([4, 1]),
            "axis": 0,
            "channel_wise": False,
            "packing": "8bit_u8",
            "view_as_float": False,
            "scale": torch.tensor(0.0371, dtype=torch.float16),
            "zero": torch.tensor(1.7, dtype=torch.float16),
        }
        if by_columns:
            scale = torch.tensor([[0.0371, 0.0113]], dtype=torch.float16)
            zero = torch.tensor([[1.7, 90.1]], dtype=torch.float16)
            more = {"group_size": 2, "channel_wise": True, "scale": scale, "zero": zero}
            meta["meta_zero"] |= more
            meta["zero_q"] = meta["zero_q"].reshape(2, 2)
    if stacked:
        parts = (meta.pop("zero", torch.zeros(4, 1)), meta.pop("scale"))
        meta["zero_scale"] = torch.stack(parts)
    codes = torch.arange(16, dtype=torch.uint8).repeat(2).reshape(4, 8)
    state = {"W_q": codes[:2] << 4 | codes[2:]}
    state |= {"meta": meta, "bias": None} if nested else meta
    torch.save({"a.b": state, "norm": {"weight": torch.ones(3)}}, path)
    return codes.numpy().astype(np.float64), meta


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_hqq_in_a_pickle(tmp_path, nested, stacked):
    path = tmp_path / "qmodel.pt"
    codes, _ = hqq_by_hand(path, quantised=False, nested=nested, stacked=stacked)
    scale, zero = np.array([[0.5], [0.25], [2], [1]]), np.array([[7.5], [8], [6.25], [0]])
    for place in (path, tmp_path):
        matrix = read(place, "a.b")
        assert np.array_equal(matrix.dequantize(), ((codes - zero) * scale).reshape(2, 16))


@pytest.mark.parametrize("by_columns", [False, True])
def test_hqq_with_quantised_zeros(tmp_path, by_columns):
    # As PyTorch computes it: each result is rounded to float16.
    codes, meta = hqq_by_hand(tmp_path / "m.pt", quantised=True, by_columns=by_columns)
    inner = meta["meta_zero"]
    zero = ((meta["zero_q"].half() - inner["zero"]) * inner["scale"]).reshape(4, 1)
    expected = (torch.from_numpy(codes) - zero.double()) * meta["scale"].double()
    matrix = read(tmp_path / "m.pt")
    assert np.array_equal(matrix.dequantize(), expected.reshape(2, 16).numpy())


def test_hqq_with_quantised_zeros_stacked(tmp_path):
    hqq_by_hand(tmp_path / "m.pt", quantised=True, stacked=True)
    with pytest.raises(FileError, match="quantised and stacked, which is not imported; quantise"):
        read(tmp_path / "m.pt")


def altered(sample, change):
    """Load a file of torch.save, change its tensors, and save it again."""
    state = torch.load(sample.path, weights_only=True)
    for name, tensor in change.items():
        if tensor is None:
            del state[f"{Q}.{name}"]
        else:
            state[f"{Q}.{name}"] = tensor
    torch.save(state, sample.path)
    return sample.path


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lookup_table": torch.zeros(6, 4)}, "must have 8 or 16 entries a row, not 4"),
        ({"lookup_table": torch.full((6, 16), torch.inf)}, "must be of finite numbers"),
        ({"lookup_table": torch.zeros(7, 16)}, "qweight' must have whole codes of 4 bits for 7"),
        ({"lookup_table": torch.zeros(6, 8)}, "qweight' must have whole codes of 3 bits for 6"),
        ({"qweight": None}, "has no tensor"),
        ({"qweight": torch.zeros(8, 6)}, "must be I32 of 2 dimensions"),
        ({"vals": None}, "has no tensor '.*vals'"),
        ({"rows": ints(0, 1, 2, 3)}, r"rows' must be I32 of shape \(7,\)"),
        ({"rows": ints(0, 9, 2, 2, 2, 2, 2)}, "rows' must rise from 0 to"),
        ({"vals": torch.zeros(3, 3)}, "must be F32 or F16 or BF16 of 1 dimensions"),
        ({"full_rows": torch.zeros(63, 2)}, r"must be of 64 inputs, not of shape \(63, 2\)"),
        ({"full_rows": torch.zeros(3)}, r"must be of 64 inputs, not of shape \(3,\)"),
        ({"full_row_indices": ints(0, 6)}, "full_row_indices' must have rows from 0 to 5"),
        ({"full_row_indices": ints(0, -1)}, "full_row_indices' must have rows from 0 to 5"),
        ({"full_row_indices": ints(0)}, r"must be I32 of shape \(2,\)"),
        ({"full_rows": torch.full((64, 2), torch.nan)}, "must be of finite numbers"),
        ({"full_rows": torch.full((64, 2), 1e30)}, "need more than 62 bits|must be within"),
    ],
)
def test_squeezellm(tmp_path, change, sentence):
    sample = write_squeezellm(tmp_path, np.random.default_rng(2))
    with pytest.raises(ValueError, match=f"^Layer '{Q}': .*({sentence})"):
        read(altered(sample, change))


def test_squeezellm_with_columns_out_of_range(tmp_path):
    sample = write_squeezellm(tmp_path, np.random.default_rng(2))
    state = torch.load(sample.path, weights_only=True)
    for wrong in (64, -1):
        columns = state[f"{Q}.cols"].clone()
        columns[2] = wrong
        with pytest.raises(FileError, match="cols' must have columns from 0 to 63"):
            read(altered(sample, {"cols": columns}))


def test_squeezellm_with_rows_that_fall(tmp_path):
    sample = write_squeezellm(tmp_path, np.random.default_rng(2))
    rows = torch.load(sample.path, weights_only=True)[f"{Q}.rows"].clone()
    rows[2] = rows[-1] + 5
    with pytest.raises(FileError, match="rows' must rise from 0 to"):
        read(altered(sample, {"rows": rows}))


def test_outliers_with_lower_bits_than_the_table(tmp_path):
    sample = write_squeezellm(tmp_path, np.random.default_rng(2), full=0)
    state = torch.load(sample.path, weights_only=True)
    table = state[f"{Q}.lookup_table"].mul(1 << 8).round().div(1 << 8)
    values = torch.from_numpy(np.random.default_rng(3).uniform(0.01, 1, len(state[f"{Q}.vals"])))
    values = values.to(torch.float32)
    values[3] = 0  # must not count as one of no bits at all
    plain = read(altered(sample, {"lookup_table": table, "vals": torch.zeros_like(values)}))
    assert plain.outliers is None
    matrix = read(altered(sample, {"lookup_table": table, "vals": values}))
    expected = plain.dequantize()
    rows, columns = state[f"{Q}.rows"].numpy(), state[f"{Q}.cols"].numpy()
    expected[np.repeat(np.arange(6), np.diff(rows)), columns] += values.numpy().astype(np.float64)
    assert np.array_equal(matrix.dequantize(), expected)


def test_squeezellm_with_a_table_of_too_many_bits(tmp_path):
    sample = write_squeezellm(tmp_path, np.random.default_rng(2), sparse=False, full=0)
    table = torch.full((6, 16), 0.5)
    table[3, 5] = 2.0**-31 * 1.5
    with pytest.raises(ValueError, match=f"^Layer '{Q}': Scales of row 3 need 32 bits"):
        read(altered(sample, {"lookup_table": table}))


def test_outliers_far_from_the_table(tmp_path):
    # Large ones do not widen the scales; none at all, nor a row of zeros, is no special case.
    sample = write_squeezellm(tmp_path, np.random.default_rng(2), full=0)
    state = torch.load(sample.path, weights_only=True)
    table = state[f"{Q}.lookup_table"].half().float()
    table[2] = 0
    values = torch.round(state[f"{Q}.vals"] * 64) * 16
    path = altered(sample, {"lookup_table": table, "vals": values})
    assert read(path).scale_width <= 20
    empty = {"rows": ints(*[0] * 7), "cols": ints(), "vals": torch.zeros(0)}
    path = altered(sample, empty)
    matrix = read(path)
    assert matrix.outliers is None
    assert not matrix.dequantize()[2].any()


def test_bitnet(tmp_path):
    rng = np.random.default_rng(1)
    sample = write_bitnet(tmp_path / "1", rng, linear_class=None)
    with pytest.raises(ValueError, match=r"must have a linear_class: .*, not None$"):
        read(sample.path)
    for wrong in ("linear", 3, ["bitlinear"]):
        sample = write_bitnet(tmp_path / "2", rng, linear_class=wrong)
        with pytest.raises(ValueError, match=r"must have a linear_class: .*, not ['3\[]"):
            read(sample.path)
    stem = "model.layers.0.mlp.gate_proj"
    for scale, sentence in (
        (np.zeros(1, np.float32), "weight_scale' must be a number to divide by, not 0.0"),
        (np.full(1, 1e-45, np.float32), "weight_scale' must be a number to divide by, not 1.4"),
        (np.full(1, np.nan, np.float32), "weight_scale' must be of finite numbers"),
        (np.ones(2, np.float32), r"weight_scale' must be one number, not of shape \(2,\)"),
    ):
        sample = write_bitnet(tmp_path / "3", rng, linear_class="bitlinear")
        tensors = {f"{stem}.weight": np.zeros((2, 8), np.uint8), f"{stem}.weight_scale": scale}
        write_safetensors(sample.path / "model.safetensors", tensors)
        with pytest.raises(FileError, match=f"^Layer '{stem}': .*{sentence}"):
            read(sample.path)
    tensors = {f"{stem}.weight": np.full((2, 8), 3, np.uint8), f"{stem}.weight_scale": np.ones(1)}
    write_safetensors(sample.path / "model.safetensors", tensors)
    with pytest.raises(FileError, match="has codes that are none of -1, 0 and 1"):
        read(sample.path)


def test_layers_of_bitnet_are_those_that_are_packed(tmp_path):
    sample = write_bitnet(tmp_path, np.random.default_rng(1))
    tensors = {"a.weight": np.ones((2, 8), np.float32), "a.weight_scale": np.ones(1, np.float32)}
    write_safetensors(sample.path / "model.safetensors", tensors)
    importer = detect_importer(CheckpointSource(sample.path))
    assert importer is not None
    assert importer(CheckpointSource(sample.path)).layers == ()


def bcq(folder, **changes):
    tensors = {
        "a.qweight": np.zeros((4, 3, 5), np.int32),
        "a.alpha_3": np.ones((2, 3, 5), np.float16),
        "a.beta_3": np.ones((2, 5), np.float16),
    } | {f"a.{name}": value for name, value in changes.items()}
    write_safetensors(
        folder / "model.safetensors", {k: v for k, v in tensors.items() if v is not None}
    )
    return folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alpha_3": np.ones((3, 3, 5), np.float16)}, "has 3 groups for 128 inputs, which do not"),
        ({"alpha_3": np.ones((4, 3, 5), np.float16)}, "contradict the configuration's group_size"),
        ({"alpha_3": np.ones((2, 2, 5), np.float16)}, r"must be of shape \(2, 3, 5\), not \(2, 2"),
        ({"alpha_3": np.ones((2, 3), np.float16)}, "must be F16 or BF16 or F32 of 3 dimensions"),
        ({"beta_3": np.ones((2, 4), np.float16)}, r"must be of shape \(2, 5\), not \(2, 4\)"),
        ({"beta_3": np.full((2, 5), np.inf, np.float16)}, "must be of finite numbers"),
        ({"beta_3": None}, "has no tensor 'a.beta_3'"),
        ({"qweight": np.zeros((4, 2, 5), np.int32)}, "There are 2 planes of signs, but scales for"),
        ({"qweight": np.zeros((4, 3, 5), np.float32)}, "must be I32 of 3 dimensions"),
    ],
)
def test_binary_coding(tmp_path, changes, sentence):
    (tmp_path / "config.json").write_text(json.dumps({"anybcq": {"group_size": 64}}))
    with pytest.raises(FileError, match=f"^Layer 'a': .*{sentence}"):
        read(bcq(tmp_path, **changes))


def test_precisions_of_anybcq(tmp_path):
    sample = write_anybcq(tmp_path, np.random.default_rng(1), precisions=(2, 3))
    source = CheckpointSource(sample.path)
    importer = detect_importer(source)
    assert importer is not None
    with pytest.raises(ValueError, match=r"The precisions of .* are 2, 3, not 4$"):
        importer(source).choose_precision(4)
    sample = write_lut_gemm(tmp_path / "l", np.random.default_rng(1))
    source = CheckpointSource(sample.path)
    with pytest.raises(ValueError, match="has one precision, so that none can be chosen"):
        importer(source).choose_precision(3)


def test_too_many_planes(tmp_path):
    sample = write_anybcq(tmp_path, np.random.default_rng(1), precisions=(2, 5))
    with pytest.raises(ValueError, match=f"^Layer '{DOWN}': .* up to 4 planes of signs, not 5; ch"):
        read(sample.path)
    source = CheckpointSource(sample.path)
    found = detect_importer(source)
    assert found is not None
    importer = found(source)
    importer.choose_precision(2)
    assert importer.read(DOWN).members[0].name == "bcq2_asym"
