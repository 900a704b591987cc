"""SLiM-Quant, LLM-FP4 and FineQuant, against their rules written out."""

import numpy as np
import pytest

from lutra.formats import CATALOG, family
from lutra.quant import METHODS, Recipe, quantize, quantize_by
from lutra.quant.codebook_family import FLOAT_FAMILIES
from lutra.quant.finequant import group_sizes


def layer(seed, rows=12, columns=64, tokens=80):
    rng = np.random.default_rng(seed)
    weights = rng.standard_t(4, (rows, columns)).astype(np.float32)
    mixing = rng.standard_normal((columns, columns)) * np.exp(rng.standard_normal(columns))
    return weights, (rng.standard_normal((tokens, columns)) @ mixing).astype(np.float32)


def nearest(values, x):
    values = np.unique(values).astype(np.float64)
    return values[(x[..., None] > (values[:-1] + values[1:]) / 2).sum(axis=-1)]


def usable(item):
    return [value for code, value in enumerate(item.values) if code not in item.unused]


@pytest.mark.parametrize("name", ["int4", "int2", "float4_e2m1", "bitmod4"])
def test_slim_quant_takes_these_bounds(name):
    if name == "bitmod4":
        assert not METHODS["slim_quant"].serves(family(name))
        return
    weights, _ = layer(1, rows=40)
    made = quantize(weights, format=name, group_size=16, method="slim_quant")
    values = usable(family(name).members[0])
    reach, top, bins = max(map(abs, values)), float(np.abs(weights).max()), 512
    middles = (np.arange(bins) + 0.5) * (top / bins)
    counts = [
        np.histogram(np.abs(weights[side]), bins=bins, range=(0, top))[0]
        for side in (weights > 0, weights <= 0)
    ]

    def error(edge):
        delta = np.float32(edge * top / bins / reach)
        total = 0.0
        for sign, numbers in zip((1, -1), counts, strict=True):
            x = (sign * middles).astype(np.float32)
            total += (numbers * (nearest(values, x / delta) * np.float64(delta) - x) ** 2).sum()
        return total

    best = min((512 * step // 10 for step in range(1, 11)), key=error)
    edges = range(max(1, best - 51), min(512, best + 51) + 1)
    wanted = np.float32(min(edges, key=error) * top / bins / reach)
    scales = made.scales * made.row_scales[:, None, None]
    assert np.allclose(scales, wanted, rtol=1e-6)
    assert len(np.unique(made.scales)) == 1
    mean = np.square(made.dequantize() - weights).mean()
    plain = quantize(weights, format=name, group_size=16, method="slim_quant")
    assert np.array_equal(made.codes, plain.codes)
    delta = top / reach
    assert mean < np.square(nearest(values, weights / delta) * delta - weights).mean()


@pytest.mark.parametrize("exponent", [-130, -100, 100])
def test_slim_quant_of_other_units(exponent):
    weights = np.random.default_rng(6).integers(-400, 401, (12, 32)).astype(np.float32)
    plain, moved = (
        quantize(np.ldexp(weights, shift), format="int4", group_size=16, method="slim_quant")
        for shift in (0, exponent)
    )
    assert np.array_equal(moved.codes, plain.codes)
    if exponent > -120:  # below, the scale itself has fewer bits
        assert np.array_equal(moved.row_scales, np.ldexp(plain.row_scales, exponent))


def test_slim_quant_of_the_least_weights():
    weights = np.full((2, 4), 1e-45, np.float32)
    made = quantize(weights, format="int4", method="slim_quant")
    assert np.isfinite(made.dequantize()).all()


def test_slim_quant_of_zeros():
    assert not quantize(np.zeros((2, 9)), format="int4", method="slim_quant").dequantize().any()


@pytest.mark.parametrize("weighting", ["none", "output"])
@pytest.mark.parametrize("name", ["float3", "float4"])
def test_llm_fp4_takes_the_split_of_least_error(name, weighting):
    weights, inputs = layer(2, rows=6)
    members = FLOAT_FAMILIES[name].members
    assert len(members) == int(name[-1]) - 1
    made = quantize(
        weights,
        format=name,
        group_size=16,
        method="llm_fp4",
        scale_width=16,
        options={"weighting": weighting},
        calibration=inputs if weighting == "output" else None,
    )
    totals, kept = [], []
    for item in members:
        values, total, scales = usable(item), 0.0, np.empty((6, 4))
        for n in range(6):
            for g in range(4):
                w, x = weights[n, 16 * g : 16 * g + 16], inputs[:, 16 * g : 16 * g + 16]
                full = np.float32(np.abs(w).max() / max(values))
                tried = []
                for ratio in (1, *np.linspace(0.01, 1.2, 100, dtype=np.float32)):
                    scale = full * np.float32(ratio)
                    e = nearest(values, w / scale) * np.float64(scale) - w
                    moved = e if weighting == "none" else x.astype(np.float64) @ e / np.sqrt(80)
                    tried.append((float((moved**2).sum()), scale))
                error, scales[n, g] = min(tried, key=lambda pair: pair[0])
                total += error
        totals.append(total)
        kept.append(scales)
    best = int(np.argmin(totals))
    assert made.members == (members[best],)
    found = made.scales[..., 0] * made.row_scales[:, None].astype(np.float64)
    assert np.allclose(found, kept[best], rtol=1e-4, atol=1e-4 * kept[best].max())


def test_llm_fp4_looks_at_some_tokens():
    weights, inputs = layer(3)
    options = {"weighting": "output"}
    recipe = Recipe(format="float4_e2m1", method="llm_fp4", options=options | {"tokens": 8})
    few = quantize_by(recipe, weights, calibration=inputs)
    recipe = Recipe(format="float4_e2m1", method="llm_fp4", options=options)
    same = quantize_by(recipe, weights, calibration=inputs[::10])
    assert np.array_equal(few.codes, same.codes)


def test_float_families_in_recipes():
    recipe = Recipe(format="float4", method="llm_fp4")
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert {item.name for item in recipe.family.members} == {
        "float4_e3m0", "float4_e2m1", "float4_e1m2"
    }  # fmt: skip
    weights, _ = layer(4)
    mixed = quantize(weights, format="float4", group_size=16)
    assert len(np.unique(mixed.format_ids)) > 1


def test_group_sizes():
    assert group_sizes(128, 16) == [128, 64, 32, 16]
    assert group_sizes(100, 16) == [100, 64, 32, 16]
    assert group_sizes(48, 64) == [48]


def test_finequant_by_ranges():
    rng = np.random.default_rng(6)
    even = rng.uniform(-1, 1, (16, 256)).astype(np.float32)
    uneven = even * np.repeat(np.exp2(np.arange(8)), 32).astype(np.float32)
    sizes = {}
    for name, weights in (("even", even), ("uneven", uneven)):
        sizes[name] = quantize(weights, format="int4", group_size=16, method="finequant").group_size
        ranges = {
            s: np.abs(weights).reshape(16, -1, s).max(axis=2).mean() for s in (256, 128, 64, 32, 16)
        }
        wanted = 256
        for size in (128, 64, 32, 16):
            if ranges[size] >= 0.9 * ranges[wanted]:
                break
            wanted = size
        assert sizes[name] == wanted
    assert sizes == {"even": 256, "uneven": 32}


def test_finequant_by_error():
    weights, _ = layer(7, columns=256)
    weights[:, ::40] *= 10
    squares = float((weights.astype(np.float64) ** 2).sum())
    errors = {}
    for size in (256, 128, 64, 32, 16):
        made = quantize(weights, format="int4", group_size=size, method="mse")
        errors[size] = float(((made.dequantize() - weights) ** 2).sum()) / squares
    for budget in (0.5, 0.01, 0.005, 1e-9):
        made = quantize(
            weights,
            format="int4",
            group_size=16,
            method="finequant",
            options={"rule": "error", "budget": budget},
        )
        assert made.group_size == next((s for s in errors if errors[s] <= budget), 16)


@pytest.mark.parametrize("method", ["slim_quant", "llm_fp4", "finequant"])
def test_every_format_they_serve(method):
    weights, _ = layer(8, rows=4, columns=40)
    weights[2] = 0
    for name, entry in CATALOG.items():
        if METHODS[method].serves(entry) and entry.code_width < 6:
            made = quantize(weights, format=name, group_size=16, method=method, scale_width=16)
            # With one scale for the layer, iq4_nl, which has no 0, gets its least value.
            assert not made.dequantize()[2].any() or name == "iq4_nl", name
            error = np.linalg.norm(made.dequantize() - weights) / np.linalg.norm(weights)
            assert error < 0.95, name
