from itertools import product

import numpy as np
import pytest

from lutra.formats import family
from lutra.quant import quantize
from lutra.quant.sign_search import SignSearch, _conjugate_gradients

NAMES = [f"bcq{planes}{offset}" for planes in range(1, 5) for offset in ("", "_asym")]


def groups(seed, length=64, count=50):
    """Return groups of several shapes as columns, degenerate ones among them."""
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((length, count)) * np.exp(rng.standard_normal(count))
    made[:, 0] = 0
    made[:, 1] = 2.5
    made[:, 2] = np.where(np.arange(length) % 2, 1.0, -1.0)
    made[:, 3] = np.abs(made[:, 3])
    made[:, 4] = np.where(np.arange(length) == 5, -3.0, 0.0)
    made[:, 5] = rng.integers(-3, 4, length)
    return made.astype(np.float32)


def rebuilt(name, made):
    """Return the weights that codes and float scales stand for, one term at a time."""
    planes = family(name).code_width
    weights = np.zeros(made.codes.shape)
    for plane in range(planes):
        weights += np.where(made.codes >> plane & 1, 1.0, -1.0) * made.scales[plane]
    if name.endswith("_asym"):
        weights += made.scales[planes]
    return weights


def squared_errors(name, made, weights):
    return ((rebuilt(name, made) - weights) ** 2).sum(axis=0)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_equals_its_definition(name):
    weights = groups(1)
    made = SignSearch(family(name).members[0], rounds=0)(weights)
    for column in range(weights.shape[1]):
        rest = [float(w) for w in weights[:, column]]
        if name.endswith("_asym"):
            offset = sum(rest) / len(rest)
            assert made.scales[-1, column] == np.float32(offset)
            rest = [r - offset for r in rest]
        for plane in range(family(name).code_width):
            scale = sum(abs(r) for r in rest) / len(rest)
            signs = [1 if r >= 0 else -1 for r in rest]
            rest = [r - sign * scale for r, sign in zip(rest, signs, strict=True)]
            bits = made.codes[:, column] >> plane & 1
            assert (2 * bits.astype(int) - 1).tolist() == signs, f"column {column}"
            assert made.scales[plane, column] == np.float32(scale), f"column {column}"


@pytest.mark.parametrize("name", NAMES)
def test_no_round_raises_the_error(name):
    weights = groups(2)
    before = None
    for rounds in range(8):
        made = SignSearch(family(name).members[0], rounds=rounds)(weights)
        now = squared_errors(name, made, weights)
        if before is not None:
            # Scales are rounded to float32 on the way out.
            assert (now <= before * (1 + 1e-5) + 1e-10).all(), f"round {rounds}"
        before = now


@pytest.mark.parametrize("name", NAMES)
def test_signs_are_the_best_for_the_scales(name):
    weights = groups(3)
    planes = family(name).code_width
    made = SignSearch(family(name).members[0], rounds=5)(weights)
    assert (made.scales[:planes] >= 0).all()
    assert (np.diff(made.scales[:planes], axis=0) <= 0).all()
    offset = made.scales[planes] if name.endswith("_asym") else 0
    sums = [
        sum(sign * made.scales[plane] for plane, sign in enumerate(signs)) + offset
        for signs in product((-1.0, 1.0), repeat=planes)
    ]
    best = np.min([np.abs(weights - total) for total in sums], axis=0)
    # Between sums that are all but equal, float32 scales do not tell which was nearer.
    assert np.allclose(np.abs(rebuilt(name, made) - weights), best, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_scales_are_the_least_squares(name):
    weights = groups(4)
    planes = family(name).code_width
    start = SignSearch(family(name).members[0], rounds=0)(weights)
    # Rounds end with new signs, so only the scales of a single round belong to known signs.
    fitted = SignSearch(family(name).members[0], rounds=1)(weights).scales
    full_rank = 0
    for column in range(weights.shape[1]):
        factors = 2.0 * (start.codes[:, column, None] >> np.arange(planes) & 1) - 1
        if name.endswith("_asym"):
            factors = np.hstack([factors, np.ones((len(factors), 1))])
        solution, _, rank, _ = np.linalg.lstsq(factors, weights[:, column], rcond=None)
        if rank == factors.shape[1]:
            full_rank += 1
            wanted = [*-np.sort(-np.abs(solution[:planes])), *solution[planes:]]
            largest = float(np.abs(weights[:, column]).max())
            assert np.allclose(fitted[:, column], wanted, rtol=1e-5, atol=1e-5 * largest)
    assert full_rank > 40


def test_singular_systems_are_solved():
    rng = np.random.default_rng(12)
    factors = rng.choice([-1.0, 1.0], (20, 4, 30))  # weights, unknowns, systems
    factors[:, 3, :10] = factors[:, 0, :10]
    factors[:, 2, 5:15] = -factors[:, 1, 5:15]
    factors[:, :, 20] = 1
    weights = rng.standard_normal((20, 30))
    gram = np.einsum("win,wjn->ijn", factors, factors)
    right = np.einsum("win,wn->in", factors, weights)
    solved = _conjugate_gradients(gram, right, rng.standard_normal((4, 30)))
    for n in range(30):
        best = np.linalg.lstsq(factors[:, :, n], weights[:, n], rcond=None)[0]
        least = ((factors[:, :, n] @ best - weights[:, n]) ** 2).sum()
        reached = ((factors[:, :, n] @ solved[:, n] - weights[:, n]) ** 2).sum()
        assert reached == pytest.approx(least, rel=1e-9), f"system {n}"


@pytest.mark.parametrize(
    ("name", "bound"), [("bcq1", 0.61), ("bcq2", 0.35), ("bcq3", 0.2), ("bcq4", 0.12)]
)
def test_error_falls_with_every_plane(name, bound):
    weights = np.random.default_rng(9).standard_normal((64, 512)).astype(np.float32)
    norm = np.linalg.norm(weights)
    for suffix in ("", "_asym"):
        made = quantize(weights, format=name + suffix, group_size=128)
        assert np.linalg.norm(made.dequantize() - weights) / norm < bound
    coarse = quantize(weights, format=name, group_size=128, method="greedy")
    fine = quantize(weights, format=name, group_size=128, method="alternating")
    coarse_error = np.linalg.norm(coarse.dequantize() - weights)
    assert np.linalg.norm(fine.dequantize() - weights) <= coarse_error * (1 + 1e-3)


def test_weights_that_are_binary_coded_come_back():
    # 12 and 5 with all signs: four distinct sums, an offset of 3.
    rng = np.random.default_rng(3)
    signs = rng.choice([-1, 1], (8, 64, 2))
    weights = (signs @ np.array([12, 5]) + 3).astype(np.float32)
    made = quantize(weights, format="bcq2_asym", group_size="row", scale_width=16)
    assert np.allclose(made.dequantize(), weights, rtol=1e-4, atol=1e-3)


def test_value_formats_are_refused():
    with pytest.raises(ValueError, match="'int4' must be a binary-coding format"):
        SignSearch(family("int4").members[0], rounds=1)
