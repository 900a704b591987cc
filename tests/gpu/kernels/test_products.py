import numpy as np
import pytest
import torch

from lutra.formats import CATALOG, CODEBOOKS, FLOATS, Numerics
from lutra.gpu import PackedWeights, from_numpy, matmul, step_exponents, sums, to_numpy
from lutra.gpu.configs import DECODE_CONFIGS, PREFILL_CONFIGS, DecodeConfig, PrefillConfig
from lutra.gpu.launch import launch_matmul, launch_sums, launch_values
from lutra.gpu.packing import why_not_packed
from lutra.gpu.self_test import find_fault
from lutra.sim import (
    GoldenModel,
    adversarial_matrices,
    adversarial_tokens,
    nonfinite_tokens,
    random_matrix,
)

NUMERICS = [
    *((name, width) for name in FLOATS for width in (8, 15, 16, 22, 24)),
    ("float16", "exact"),
    ("int8", 8),
]
# (columns, group size): groups that divide the row, tails, groups that share a chunk, one group.
SHAPES = [(48, 16), (37, 16), (33, 32), (65, 64), (130, 128), (29, 29), (5, 64), (7, 1), (20, 5)]
# Small tiles, as the interpreter's time goes with their number and not their size.
DECODE, PREFILL = DecodeConfig(16, 1, 2), PrefillConfig(16, 32, 4, 2, 2)
MIXTURES = {
    "integers": ("int2", "int3", "int4", "int5", "int6", "int7", "int8"),
    "families": ("bitmod4", "int4_asym", "bcq3_asym", "int8_asym", "bitmod3", "ternary", "bcq1"),
}


@pytest.fixture(autouse=True)
def _poisoned_memory(device):
    """Fill what torch.empty returns with the largest integers, so that none is relied on."""
    if device != "cpu":
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


PACKED = [
    name
    for name in (*CATALOG, *CODEBOOKS)
    if not why_not_packed(random_matrix(name, 2, 8, 8, seed=1))
]


def members(names):
    return [item for name in names for item in CATALOG[name].members]


def batch(numerics, columns, seed, count):
    tokens = adversarial_tokens(numerics, columns, seed=seed)
    tokens |= nonfinite_tokens(numerics, columns, seed=seed)
    chosen = np.random.default_rng(seed).choice(len(tokens), count, replace=len(tokens) < count)
    return np.stack(list(tokens.values()))[chosen]


def check(matrix, numerics, x, device, *configs):
    expected = GoldenModel(matrix, numerics).run(x, nonfinite="nan")
    packed = PackedWeights.words(matrix).to(device)
    for config in configs:
        y = to_numpy(launch_matmul(from_numpy(x).to(device), packed, numerics, config=config))
        assert y.dtype == expected.dtype
        kind = f"u{y.itemsize}"
        assert np.array_equal(y.view(kind), expected.view(kind)), config


@pytest.mark.parametrize("name", PACKED)
def test_every_format(name, device):
    seed = PACKED.index(name)
    activation, act_width = NUMERICS[seed % len(NUMERICS)]
    output = list(FLOATS)[seed % 3]
    numerics = Numerics(activation=activation, act_width=act_width, output=output)
    scale_width = 8 if numerics.is_exact else 16
    columns, group_size = SHAPES[seed % len(SHAPES)]
    matrix = random_matrix(name, 19, columns, group_size, seed=seed, scale_width=scale_width)
    check(matrix, numerics, batch(numerics, columns, seed, 2), device, DECODE, PREFILL)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PACKED)
def test_every_format_with_every_shape(name, shape, device):
    # The numerics go round, two for each case.
    case = PACKED.index(name) + 4 * SHAPES.index(shape)
    for seed in (case, case + 7):
        activation, act_width = NUMERICS[seed % len(NUMERICS)]
        output = list(FLOATS)[seed % 3]
        numerics = Numerics(activation=activation, act_width=act_width, output=output)
        matrix = random_matrix(name, 19, *shape, seed=seed, scale_width=8)
        check(matrix, numerics, batch(numerics, shape[0], seed, 3), device, DECODE, PREFILL)


@pytest.mark.parametrize("shape", [(40, 16), pytest.param((70, 128), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures(name, shape, device):
    matrix = random_matrix(members(MIXTURES[name]), 23, *shape, seed=2, scale_width=16)
    numerics = Numerics(activation="bfloat16", act_width=15)
    check(matrix, numerics, batch(numerics, shape[0], 1, 3), device, DECODE, PREFILL)


@pytest.mark.parametrize(("columns", "config"), [(160, DECODE), (256, DECODE), (1100, PREFILL)])
def test_whole_rows_as_groups(columns, config, device):
    # More than a segment, or more than one product of the tensor cores, to a group.
    numerics = Numerics(activation="int8", act_width=8)
    matrix = random_matrix("int6", 17, columns, columns, seed=2)
    check(matrix, numerics, batch(numerics, columns, 1, 2), device, config)


@pytest.mark.parametrize("config", DECODE_CONFIGS, ids=str)
def test_every_decode_config(config, device):
    numerics = Numerics(activation="int8", act_width=8)
    matrix = random_matrix("bitmod3", 70, 96, 32, seed=3)
    check(matrix, numerics, batch(numerics, 96, 1, 1), device, config)


@pytest.mark.parametrize("config", PREFILL_CONFIGS, ids=str)
def test_every_prefill_config(config, device):
    numerics = Numerics(act_width=15, output="float16")
    matrix = random_matrix("int4_asym", 70, 96, 32, seed=3)
    check(matrix, numerics, batch(numerics, 96, 1, 9), device, config)


@pytest.mark.parametrize("split", range(1, 9))
def test_every_split(split, device):
    numerics = Numerics(activation="float32", act_width=24)
    matrix = random_matrix("bcq2_asym", 18, 64, 16, seed=3)
    configs = DecodeConfig(32, 1, split), PrefillConfig(32, 16, 4, 2, split)
    check(matrix, numerics, batch(numerics, 64, 1, 2), device, *configs)


def test_every_batch_up_to_33(device):
    # By default configurations: the decode kernel up to 8 tokens, then the prefill kernels.
    numerics = Numerics(activation="int8", act_width=8)
    matrix = random_matrix("int4", 18, 20, 32, seed=4)
    x = batch(numerics, 20, 1, 33)
    whole = GoldenModel(matrix, numerics).run(x, nonfinite="nan").view(np.uint32)
    packed = PackedWeights.words(matrix).to(device)
    for tokens in range(34):
        y = to_numpy(launch_matmul(from_numpy(x[:tokens]).to(device), packed, numerics))
        assert np.array_equal(y.view(np.uint32), whole[:tokens]), tokens


@pytest.mark.parametrize("config", [DECODE, PREFILL], ids=["decode", "prefill"])
@pytest.mark.parametrize("name", ["int8_asym", "bitmod4", "bcq4_asym"])
def test_adversarial_matrices(name, config, device):
    numerics = Numerics(activation="float32", act_width=24)
    for matrix in adversarial_matrices(name, 6, 19, 16, seed=6, scale_width=16).values():
        check(matrix, numerics, batch(numerics, 19, 1, 2), device, config)


@pytest.mark.parametrize("columns", [256, pytest.param(4096, marks=pytest.mark.slow)])
def test_full_range_of_sums(columns, device):
    numerics = Numerics(activation="float32", act_width=24, output="int")
    matrix = adversarial_matrices("int8", 2, columns, 4096, seed=4, scale_width=16)["all_largest"]
    x = np.full((2, columns), np.nextafter(np.float32(2), np.float32(0)))
    x[1] *= -1
    packed = PackedWeights.words(matrix).to(device)
    total = columns * (2**23 - 1) * 128 * 65535
    for config in (DecodeConfig(16, 1, 1), PREFILL):
        seen, _, _ = launch_sums(from_numpy(x).to(device), packed, numerics, config=config)
        assert seen.tolist() == [[total] * 2, [-total] * 2]


@pytest.mark.parametrize("config", [DECODE, PREFILL], ids=["decode", "prefill"])
def test_shards_and_permuted_columns(config, device):
    numerics = Numerics(activation="bfloat16", act_width=12)
    matrix = random_matrix("bitmod4", 17, 96, 16, seed=5)
    x = from_numpy(batch(numerics, 96, 1, 4))
    expected = sums(x, PackedWeights.dense(matrix), numerics, check=False)
    order = np.random.default_rng(1).permutation(6)
    pieces = order[:2], order[2:3], order[3:]
    exponent = step_exponents(x, numerics)
    total = torch.zeros(len(x), 17, dtype=torch.int64)
    flags = torch.zeros(len(x), dtype=torch.bool)
    for groups in pieces:
        columns = (16 * groups[:, None] + np.arange(16)).ravel()
        part = type(matrix)(
            members=matrix.members,
            group_size=16,
            codes=matrix.codes[:, columns],
            format_ids=matrix.format_ids[:, groups],
            scales=matrix.scales[:, groups],
            zeros=matrix.zeros[:, groups],
            row_scales=matrix.row_scales,
        )
        seen, shared, flagged = launch_sums(
            x[:, columns].to(device),
            PackedWeights.words(part).to(device),
            numerics,
            exponent.to(device),
            config=config,
        )
        assert torch.equal(shared.cpu(), expected[1])
        total += seen.cpu()
        flags |= flagged.cpu()
    assert torch.equal(flags, expected[2])
    assert torch.equal(total[~flags], expected[0][~flags])


@pytest.mark.parametrize("name", ["int3", "int7_asym", "bitmod4", "bcq3_asym", "families"])
def test_values_equal_the_words(name, device):
    formats = members(MIXTURES[name]) if name in MIXTURES else name
    for shape in ((96, 32), (40, 8), (30, 30)):
        packed = PackedWeights.words(random_matrix(formats, 150, *shape, seed=1))
        spec = packed.spec
        expected = packed.values()
        seen = launch_values(packed.to(device)).cpu()
        seen = seen.view(spec.rows, spec.sums, spec.groups, -1)[..., : spec.padded_group]
        used = packed.tensors[2].permute(2, 1, 0) != 0  # the others are undefined
        assert torch.equal(seen[used], expected[used])


def test_a_matrix_of_ones_and_zeros_gives_the_weights(device):
    # Identity activations isolate decoding from summation.
    numerics = Numerics(activation="int8", act_width=8, output="int")
    for name in ("bitmod4", "int5", "bcq2_asym", "int3_asym"):
        matrix = random_matrix(name, 9, 40, 16, seed=1)
        packed = PackedWeights.words(matrix).to(device)
        eye = torch.eye(40, dtype=torch.int8, device=device)
        for config in (DECODE, PREFILL):
            seen, _, _ = launch_sums(eye, packed, numerics, config=config)
            assert np.array_equal(seen.cpu().numpy(), matrix.integer_weights().T)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bitmod4", "bcq3_asym", "int8_asym", "families"])
def test_self_test_passes(name, device):
    formats = members(MIXTURES[name]) if name in MIXTURES else name
    matrix = random_matrix(formats, 5, 300, 32, seed=1)
    assert find_fault(matrix, torch.device(device), launch_matmul, PackedWeights.words) == ""


def test_operators_on_a_gpu(device):
    if device == "cpu":
        pytest.skip("operators choose by device, and this is the processor's interpreter")
    packed = PackedWeights.words(random_matrix("bitmod4", 5, 37, 16, seed=1)).to(device)
    x = torch.randn(3, 37, device=device).half()
    torch.library.opcheck(torch.ops.lutra.matmul, (x, packed.tensors, packed.text, 16, "bfloat16"))
    torch.library.opcheck(torch.ops.lutra.sums, (x, packed.tensors, packed.text, 41, None))
    numerics = Numerics()
    assert torch.equal(
        matmul(x, packed, numerics).cpu(), matmul(x.cpu(), packed.to("cpu"), numerics)
    )
