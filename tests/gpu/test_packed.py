import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from lutra.formats import CATALOG, CODEBOOKS, Outliers, QuantizedMatrix, ValueFormat
from lutra.gpu import PackedWeights, WeightSpec, from_numpy
from lutra.gpu.packing import why_not_packed
from lutra.gpu.words import pack_words, unpack_words
from lutra.sim import adversarial_matrices, random_matrix

SHAPES = [(48, 16), (37, 16), (33, 32), (65, 64), (130, 128), (29, 29), (5, 64), (7, 1), (1, 1)]
SHAPES += [(100, 48), (40, 8), (41, 5), (20, 3)]
MIXTURES = [
    tuple(f"int{width}" for width in range(2, 9)),
    ("bitmod4", "int4_asym", "bcq3_asym", "int8_asym", "bitmod3", "ternary", "bcq1", "bcq4"),
    ("int4", "bitmod4", "float4_e2m1"),
]


# What kernels have no words for: bytes with more than 16 values or beyond 8 bits, and formats with
# several scales that are no signs.
UNPACKED = [
    *(name for name in CATALOG if re.match(r"float[5-8]_|.*_affine$|free", name)),
    "float4_bnb",
]
PACKED = [name for name in (*CATALOG, *CODEBOOKS) if name not in UNPACKED]


def scale_width(name):
    """Bits of scales with which the longest rows here stay below 2^53."""
    peak = max(item.peak for item in (CATALOG | CODEBOOKS)[name].members)
    return 16 if peak < 1 << 20 else 8


def members(*names):
    return [item for name in names for item in CATALOG[name].members]


def check(matrix, *, packed=True):
    expected = from_numpy(matrix.integer_weights()).long()
    assert torch.equal(PackedWeights.dense(matrix).integer_weights(), expected)
    if not packed:
        with pytest.raises(ValueError, match=r"^This layer has no packed layout: "):
            PackedWeights.words(matrix)
        return
    words = PackedWeights.words(matrix)
    assert torch.equal(words.integer_weights(), expected)
    assert words.spec.row_sum == int(expected.abs().sum(dim=1).max())
    assert WeightSpec.parse(words.text) == words.spec


@pytest.mark.parametrize("selectors", [False, True])
@pytest.mark.parametrize("code_width", range(1, 9))
def test_words_and_back(code_width, selectors):
    rng = np.random.default_rng(code_width)
    codes = rng.integers(0, 1 << code_width, (5, 96), dtype=np.uint8)
    words = pack_words(codes, code_width, selectors=selectors)
    assert words.dtype == np.int32
    assert words.shape == (3, code_width, 5)
    seen = unpack_words(from_numpy(words), code_width, selectors=selectors)
    assert torch.equal(seen, from_numpy(codes))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*CATALOG, *CODEBOOKS])
def test_every_format(name, shape):
    width = scale_width(name)
    matrix = random_matrix(name, 5, *shape, seed=SHAPES.index(shape), scale_width=width)
    check(matrix, packed=name in PACKED)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("names", MIXTURES)
def test_mixtures(names, shape):
    check(random_matrix(members(*names), 9, *shape, seed=SHAPES.index(shape), scale_width=16))


@pytest.mark.parametrize("name", CATALOG)
def test_extreme_codes_and_scales(name):
    width = scale_width(name)
    for matrix in adversarial_matrices(name, 3, 41, 16, seed=6, scale_width=width).values():
        check(matrix, packed=name in PACKED)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"outliers": Outliers.of(np.eye(4, 64, dtype=np.int64))}, "it has outliers"),
        ({"scale_width": 17}, "its scales have 17 bits, over 16"),
    ],
)
def test_layers_without_words(changes, sentence):
    matrix = replace(random_matrix("int4", 4, 64, 16, seed=1), **changes)
    assert why_not_packed(matrix) == sentence
    check(matrix, packed=False)


def test_words_are_in_the_order_of_the_columns():
    plain = random_matrix("int4", 4, 64, 16, seed=1)
    order = np.random.default_rng(2).permutation(64).astype(np.int32)
    check(replace(plain, column_order=order))


@pytest.mark.parametrize("name", [name for name in PACKED if name in CATALOG])
def test_a_code_costs_its_bits(name):
    matrix = random_matrix(name, 8, 256, 32, seed=1)
    packed = PackedWeights.words(matrix)
    assert packed.spec.is_ordered
    (_, parts), *_ = packed.buckets()
    assert 8 * parts.words.nbytes == 8 * 256 * matrix.members[0].code_width


def test_mixtures_cost_their_bits():
    matrix = random_matrix(members(*MIXTURES[0]), 8, 256, 32, seed=1)
    packed = PackedWeights.words(matrix)
    assert not packed.spec.is_ordered
    assert 8 * sum(parts.words.nbytes for _, parts in packed.buckets()) == matrix.code_bits


def test_one_width_is_one_bucket():
    # Integers go along with tables of their width, and zero-points with what has none.
    matrix = random_matrix(members("int4", "int4_asym", "bitmod4"), 4, 64, 16, seed=1)
    assert PackedWeights.words(matrix).spec.is_ordered


def odd_format(code_width, values):
    return ValueFormat(f"odd{code_width}", code_width, values=values)


def one_format(item):
    return QuantizedMatrix(
        members=(item,),
        group_size=8,
        codes=np.zeros((1, 8), dtype=np.uint8),
        format_ids=np.zeros((1, 1), dtype=np.uint8),
        scales=np.ones((1, 1, 1), dtype=np.int32),
        zeros=np.zeros((1, 1), dtype=np.uint8),
        row_scales=np.ones(1, dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (odd_format(5, (*range(31), 99)), "odd5 has a table of more than 16 values"),
        (odd_format(2, (0, 1, 5, 128)), "odd2 has values beyond 8 bits"),
        (odd_format(1, (5000, 5001)), "odd1 has values beyond 4095"),
    ],
)
def test_what_has_no_packed_layout(item, reason):
    matrix = one_format(item)
    assert why_not_packed(matrix) == reason
    with pytest.raises(ValueError, match=f"^This layer has no packed layout: {reason}$"):
        PackedWeights.words(matrix)
    assert PackedWeights.dense(matrix).integer_weights().tolist() == [[item.values[0]] * 8]


def test_values_off_the_int8_grid_by_a_constant_are_packed():
    check(one_format(odd_format(3, tuple(range(1000, 1008)))))


def test_formats_that_no_group_uses_need_no_bucket():
    matrix = random_matrix(members("int4", "int8"), 4, 64, 16, seed=1)
    matrix.format_ids[:] = 0
    matrix.codes[:] &= 15
    packed = PackedWeights.words(matrix)
    assert packed.spec.is_ordered
    check(matrix)


def test_integers_beyond_a_table_have_a_bucket_of_their_own():
    table = odd_format(4, (*range(-8, 7), 9))
    far = odd_format(4, tuple(range(1000, 1016)))
    matrix = random_matrix([table, far, *members("int4")], 6, 70, 32, seed=2)
    assert why_not_packed(matrix) == ""
    assert [bucket.tables for bucket in PackedWeights.words(matrix).spec.buckets] == [2, 0]
    check(matrix)


def replaced(packed, place, change):
    tensors = list(packed.tensors)
    tensors[place] = change(tensors[place])
    return PackedWeights(packed.spec, tuple(tensors))


def test_tensors_are_those_of_the_specification():
    packed = PackedWeights.words(random_matrix("int4", 4, 64, 16, seed=1))
    with pytest.raises(ValueError, match=r"^Weights must be 5 tensors, not 4$"):
        PackedWeights(packed.spec, packed.tensors[:-1])
    dense = PackedWeights.dense(random_matrix("int4", 4, 64, 16, seed=1))
    sentence = (
        r"^Weights must be contiguous float64 of shape \(4, 64\), not float64 of shape \(64, "
    )
    with pytest.raises(ValueError, match=sentence):
        replaced(dense, 2, lambda tensor: tensor.T)
    with pytest.raises(ValueError, match=r"^Weights must be on one device, not on \['cpu', 'meta'"):
        replaced(packed, 4, lambda tensor: tensor.to("meta"))


@pytest.mark.parametrize(
    "names", [("int4",), ("bitmod4",), ("bitmod4", "bcq3_asym", "int6", "bitmod3")], ids=str
)
def test_every_tensor_is_checked(names):
    packed = PackedWeights.words(random_matrix(members(*names), 40, 64, 16, seed=1))
    for place, tensor in enumerate(packed.tensors):
        changes = [
            lambda tensor: tensor[1:],
            lambda tensor: tensor[:3],
            lambda tensor: torch.cat([tensor, tensor]),
            lambda tensor: tensor.double() if tensor.dtype != torch.float64 else tensor.float(),
        ]
        if tensor.dim() > 1 and len(tensor) > 1 and len(tensor) != 3:
            changes.append(lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1))
        for change in changes:
            if tuple(change(tensor).shape) == (0, packed.spec.rows):
                continue  # what offsets are if all are 0
            if torch.equal(change(tensor), tensor) and change(tensor).is_contiguous():
                continue
            with pytest.raises(ValueError, match=r" must (be contiguous|hold the) "):
                replaced(packed, place, change)
    if len(packed.spec.buckets) > 1:
        first = packed.spec.buckets[0]
        rows = sum(len(parts.rows) for _, parts in packed.buckets())
        assert rows == 40 * 4
        # A bucket that is consistent in itself, but not all of what there is.
        tensors = list(packed.tensors)
        words = first.words * packed.spec.padded_group // 32
        tensors[4], tensors[6] = tensors[4][words:], tensors[6][1:]
        if first.tables:
            tensors[7] = tensors[7][1:]
        with pytest.raises(ValueError, match=r"^Buckets must hold the 160 groups of the layer, "):
            PackedWeights(packed.spec, tuple(tensors))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "",
            r"^The text of weights must be that of their .* \(PackedWeights.text\), not ''$",
        ),
        ("[]", r"^The text of weights must be that of"),
        ('{"buckets": [], "size": 3}', r"^The text of weights must be that of"),
        ('{"buckets": [{}], "rows": 3}', r"^The text of weights must be that of"),
    ],
)
def test_text_that_is_no_specification(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        WeightSpec.parse(text)


@pytest.mark.parametrize(("field", "value"), [("rows", 0), ("columns", -1), ("group_size", 1.5)])
def test_numbers_of_a_specification(field, value):
    fields = json.loads(PackedWeights.dense(random_matrix("int4", 4, 64, 16, seed=1)).text)
    with pytest.raises(ValueError, match=r"^Numbers in the specification of weights must be whole"):
        WeightSpec.parse(json.dumps(fields | {field: value}))
