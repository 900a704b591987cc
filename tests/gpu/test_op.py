from dataclasses import replace

import numpy as np
import pytest
import torch

from lutra.formats import CATALOG, CODEBOOKS, FLOATS, Numerics
from lutra.gpu import (
    Computation,
    PackedWeights,
    from_numpy,
    matmul,
    step_exponents,
    sums,
    to_numpy,
)
from lutra.gpu.packing import why_not_packed
from lutra.sim import (
    DTYPES,
    GoldenModel,
    adversarial_matrices,
    adversarial_tokens,
    nonfinite_tokens,
    random_matrix,
)

NUMERICS = [
    *((name, width) for name in FLOATS for width in (8, 9, 15, 16, 22, 23, 24)),
    ("float16", "exact"),
    ("int8", 8),
]
SHAPES = [(48, 16), (37, 16), (33, 32), (65, 64), (130, 128), (29, 29), (5, 64), (7, 1), (1, 1)]
LAYOUTS = {"dense": PackedWeights.dense, "words": PackedWeights.words}


def batch(numerics, columns, seed=0):
    tokens = adversarial_tokens(numerics, columns, seed=seed)
    return np.stack([*tokens.values(), *nonfinite_tokens(numerics, columns, seed=seed).values()])


def check(matrix, numerics, x, layouts=LAYOUTS):
    expected = GoldenModel(matrix, numerics).run(x, nonfinite="nan")
    for layout in layouts:
        if layout == "words" and why_not_packed(matrix):
            continue
        y = to_numpy(matmul(from_numpy(x), LAYOUTS[layout](matrix), numerics))
        assert y.dtype == expected.dtype
        kind = f"u{y.itemsize}"
        assert np.array_equal(y.view(kind), expected.view(kind)), layout


@pytest.mark.parametrize("output", FLOATS)
@pytest.mark.parametrize(("activation", "act_width"), NUMERICS)
def test_all_numerics(activation, act_width, output):
    numerics = Numerics(activation=activation, act_width=act_width, output=output)
    for seed, name in enumerate(("bitmod4", "int8_asym", "bcq3_asym")):
        matrix = random_matrix(name, 5, 37, 16, seed=seed)
        check(matrix, numerics, batch(numerics, 37, seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*CATALOG, *CODEBOOKS])
def test_all_formats(name, shape):
    seed = SHAPES.index(shape) + len(name)
    activation, act_width = NUMERICS[seed * 7 % len(NUMERICS)]
    numerics = Numerics(
        activation=activation, act_width=act_width, output=[*FLOATS][seed % len(FLOATS)]
    )
    scale_width = 1 + seed % (8 if numerics.is_exact else 16)
    peak = max(item.peak for item in (CATALOG | CODEBOOKS)[name].members)
    if peak > 4096:  # room for exact sums of 63 bits
        numerics, scale_width = replace(numerics, activation="bfloat16", act_width=14), 6
    matrix = random_matrix(name, 7, *shape, seed=seed, scale_width=scale_width)
    check(matrix, numerics, batch(numerics, shape[0], seed))


@pytest.mark.parametrize("name", CATALOG)
def test_adversarial_matrices(name):
    peak = max(item.peak for item in CATALOG[name].members)
    width = 8 if peak < 1 << 20 else 1
    for case, matrix in adversarial_matrices(name, 4, 19, 8, seed=6, scale_width=width).items():
        numerics = Numerics(activation="float32", act_width=24 if "scale" in case else 9)
        check(matrix, numerics, batch(numerics, 19), ("dense",))


def test_full_range_of_sums():
    numerics = Numerics(activation="float32", act_width=24)
    for matrix in adversarial_matrices("int8", 2, 4096, 128, seed=4, scale_width=16).values():
        check(matrix, numerics, batch(numerics, 4096))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_and_strides_change_nothing(layout):
    numerics = Numerics(activation="bfloat16", output="bfloat16")
    matrix = random_matrix("bitmod3", 33, 70, 32, seed=2)
    packed = LAYOUTS[layout](matrix)
    x = from_numpy(np.random.default_rng(1).standard_normal((33, 70)).astype(DTYPES["bfloat16"]))
    whole = matmul(x, packed, numerics)
    for tokens in (1, 2, 7, 8, 9, 32):
        assert torch.equal(matmul(x[:tokens], packed, numerics), whole[:tokens])
    assert torch.equal(matmul(x.T.contiguous().T, packed, numerics), whole)
    assert torch.equal(matmul(x.repeat(1, 2)[:, :70], packed, numerics), whole)
    assert torch.equal(matmul(x[::3], packed, numerics), whole[::3])
    assert matmul(x[:0], packed, numerics).shape == (0, 33)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("activation", "act_width"), NUMERICS)
def test_shards_along_columns_add_up(activation, act_width, layout):
    numerics = Numerics(activation=activation, act_width=act_width, output="int")
    matrix = random_matrix("bitmod4", 6, 96, 16, seed=5)
    x = np.stack(list(adversarial_tokens(numerics, 96).values()))
    expected, expected_exponent = GoldenModel(matrix, numerics).run(x)
    pieces = [slice(0, 32), slice(32, 48), slice(48, 96)]
    shards = [from_numpy(x[:, piece]) for piece in pieces]
    exponent = torch.stack([step_exponents(shard, numerics) for shard in shards]).amax(dim=0)
    total = torch.zeros(len(x), 6, dtype=torch.int64)
    for piece, shard in zip(pieces, shards, strict=True):
        groups = slice(piece.start // 16, piece.stop // 16)
        part = columns_of(matrix, piece, groups)
        seen, shared, _ = sums(shard, LAYOUTS[layout](part), numerics, exponent=exponent)
        total += seen
        assert np.array_equal(shared.numpy(), expected_exponent)
    assert np.array_equal(total.numpy(), expected)


def columns_of(matrix, columns, groups):
    return type(matrix)(
        members=matrix.members,
        group_size=matrix.group_size,
        codes=matrix.codes[:, columns],
        format_ids=matrix.format_ids[:, groups],
        scales=matrix.scales[:, groups],
        zeros=matrix.zeros[:, groups],
        row_scales=matrix.row_scales,
        scale_width=matrix.scale_width,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_permuted_columns_change_nothing(layout):
    numerics = Numerics(activation="float32", act_width=24)
    matrix = random_matrix("int3_asym", 5, 60, 12, seed=3)
    x = batch(numerics, 60)
    order = np.random.default_rng(4).permutation(5)
    columns = (12 * order[:, None] + np.arange(12)).ravel()
    permuted = columns_of(matrix, columns, order)
    y = matmul(from_numpy(x), LAYOUTS[layout](matrix), numerics)
    again = matmul(from_numpy(x[:, columns]), LAYOUTS[layout](permuted), numerics)
    assert torch.equal(again.view(torch.int32), y.view(torch.int32))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(layout):
    packed = LAYOUTS[layout](random_matrix("bitmod4", 5, 37, 16, seed=1))
    x = torch.randn(3, 37, generator=torch.Generator().manual_seed(1)).half()
    spec = packed.text
    torch.library.opcheck(torch.ops.lutra.matmul, (x, packed.tensors, spec, 16, "bfloat16"))
    torch.library.opcheck(torch.ops.lutra.sums, (x, packed.tensors, spec, 41, None))


def test_compiled_graph_is_whole_and_equal():
    packed = PackedWeights.dense(random_matrix("bitmod4", 5, 37, 16, seed=1))
    numerics = Numerics(output="float16")
    x = torch.randn(3, 37, generator=torch.Generator().manual_seed(1)).half()

    def program(x):
        return matmul(x * 2, packed, numerics) + 1

    compiled = torch.compile(program, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), program(x))


def test_arrays_in_and_out():
    matrix = random_matrix("int4", 5, 37, 16, seed=1)
    numerics = Numerics(activation="bfloat16", output="bfloat16")
    x = batch(numerics, 37)
    computation = Computation(matrix, numerics)
    assert computation.fallback_reason == "the kernels need a GPU, and the layer is on cpu"
    expected = GoldenModel(matrix, numerics).run(x, nonfinite="nan")
    assert np.array_equal(computation.run(x).view(np.uint16), expected.view(np.uint16))
    integers = Numerics(activation="bfloat16", output="int")
    finite = np.stack(list(adversarial_tokens(numerics, 37).values()))
    seen, golden = Computation(matrix, integers), GoldenModel(matrix, integers)
    for ours, theirs in zip(seen.run(finite), golden.run(finite), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"^Activations must be finite; element 0 of token"):
        seen.run(x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bad_input(layout):
    packed = LAYOUTS[layout](random_matrix("int4", 2, 3, 4, seed=1))
    numerics = Numerics()
    with pytest.raises(ValueError, match=r"^Activations must have 3 elements a token, not 4$"):
        matmul(torch.zeros(1, 4).half(), packed, numerics)
    with pytest.raises(ValueError, match=r"^Activations must be a matrix of float16, not float32"):
        matmul(torch.zeros(1, 3), packed, numerics)
    with pytest.raises(ValueError, match=r"^Activations and weights must be on one device, not on"):
        matmul(torch.zeros(1, 3, device="meta").half(), packed, numerics)
    with pytest.raises(ValueError, match=r"has float outputs; take the sums"):
        matmul(torch.zeros(1, 3).half(), packed, Numerics(output="int"))
    x = torch.tensor([[0, 1, 2], [0, float("-inf"), 2]]).half()
    sentence = r"^Activations must be finite; element 1 of token 1 is -inf$"
    with pytest.raises(ValueError, match=sentence):
        matmul(x, packed, numerics, check=True)
    with pytest.raises(ValueError, match=sentence):
        sums(x, packed, numerics)
    with pytest.raises(ValueError, match=r"^Exponents must be int32 of shape \(1,\) on cpu, not"):
        sums(x[:1], packed, numerics, exponent=torch.zeros(1))


def test_operators_check_what_they_get():
    packed = PackedWeights.dense(random_matrix("int4", 2, 3, 4, seed=1))
    arguments = (packed.tensors, packed.text)
    for x in (torch.zeros(1, 3).half(), torch.zeros(1, 3, device="meta").half()):
        with pytest.raises(ValueError, match=r"^act_width must be"):
            torch.ops.lutra.matmul(x, *arguments, 7, "float32")
        with pytest.raises(ValueError, match=r"^Output type must be one of"):
            torch.ops.lutra.matmul(x, *arguments, 16, "float64")
        with pytest.raises(ValueError, match=r"elements a token, not 2$"):
            torch.ops.lutra.matmul(x[:, :2], *arguments, 16, "float32")
    with pytest.raises(ValueError, match=r"^Activation type must be one of"):
        torch.ops.lutra.sums(torch.zeros(1, 3).double(), *arguments, 16, None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operators_check_what_goes_together(layout):
    packed = LAYOUTS[layout](random_matrix("bitmod4", 2, 3, 4, seed=1))
    elsewhere = [tensor.to("meta") for tensor in packed.tensors]
    one_device = r"^Activations and weights must be on one device, not on"
    x = torch.zeros(3, 3).half()
    for tokens, weights in ((x, elsewhere), (x.to("meta"), packed.tensors)):
        with pytest.raises(ValueError, match=one_device):
            torch.ops.lutra.matmul(tokens, weights, packed.text, 16, "float32")
        with pytest.raises(ValueError, match=one_device):
            torch.ops.lutra.sums(tokens, weights, packed.text, 16, None)
    y = torch.ops.lutra.matmul(x.to("meta"), elsewhere, packed.text, 16, "float32")
    assert y.is_meta
    for device, weights in (("cpu", packed.tensors), ("meta", elsewhere)):
        tokens = x.to(device)
        for exponent in (
            torch.zeros(1, dtype=torch.int32, device=device),
            torch.zeros(3, dtype=torch.int64, device=device),
        ):
            with pytest.raises(ValueError, match=r"^Exponents must be int32 of shape \(3,\) on"):
                torch.ops.lutra.sums(tokens, weights, packed.text, 16, exponent)
        with pytest.raises(ValueError, match=r"^lutra::matmul has float outputs; take the sums of"):
            torch.ops.lutra.matmul(tokens, weights, packed.text, 16, "int")
        with pytest.raises(ValueError, match=r"^The text of weights must be that of their spec"):
            torch.ops.lutra.matmul(tokens, weights, "text", 16, "float32")
        with pytest.raises(ValueError, match=r"^Weights must be [35-9] tensors, not 2$|must be 7"):
            torch.ops.lutra.matmul(tokens, weights[:2], packed.text, 16, "float32")
    exponent = torch.zeros(3, dtype=torch.int32, device="meta")
    with pytest.raises(ValueError, match=r"^Exponents must be int32 of shape \(3,\) on cpu, not"):
        torch.ops.lutra.sums(x, packed.tensors, packed.text, 16, exponent)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("activation", "act_width"), NUMERICS)
def test_exponents_below_a_tokens_own_are_refused(activation, act_width, layout):
    numerics = Numerics(activation=activation, act_width=act_width)
    packed = LAYOUTS[layout](random_matrix("int4", 2, 19, 8, seed=1))
    x = from_numpy(np.stack(list(adversarial_tokens(numerics, 19).values())))
    own = step_exponents(x, numerics)
    for given in (own, own + 1):
        sums(x, packed, numerics, exponent=given)
    low = own.clone()
    low[3] -= 1
    if numerics.is_exact or not numerics.is_float:
        for seen, expected in zip(
            sums(x, packed, numerics, exponent=low), sums(x, packed, numerics), strict=True
        ):
            assert torch.equal(seen, expected)
        return
    sentence = rf"token 3 is {int(low[3])}, and the token needs {int(own[3])}$"
    with pytest.raises(ValueError, match=r"^Exponents must not be below those .* " + sentence):
        sums(x, packed, numerics, exponent=low)
    sums(x, packed, numerics, exponent=low, check=False)


def test_too_wide_a_sum_is_refused():
    matrix = adversarial_matrices("int8", 1, 4096, 128, seed=4, scale_width=16)["all_largest"]
    numerics = Numerics(act_width="exact")
    with pytest.raises(ValueError, match=r"^The exact sum must fit 63 bits, but may need 76: "):
        Computation(matrix, numerics)
    packed = PackedWeights.dense(matrix)
    with pytest.raises(ValueError, match=r"^The exact sum must fit 63 bits, but may need 76: "):
        matmul(torch.zeros(1, 4096).half(), packed, numerics)
