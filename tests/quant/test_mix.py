import numpy as np
import pytest

from lutra.formats import CATALOG, FreeFormat, family
from lutra.quant import METHODS, method_for, quantize
from lutra.quant.groups import search_groups
from lutra.quant.mix import mix

SEARCHED = [
    name
    for name, entry in CATALOG.items()
    if any(method.search and method.serves(entry) for method in METHODS.values())
]


def candidate(weights, name, group_size=16):
    method = method_for(family(name))
    assert method.search is not None
    chosen = family(name)
    return search_groups(
        weights, method.search.make(chosen), members=chosen.members, group_size=group_size
    )


def weights_of(rows=9, columns=56, seed=3):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("name", SEARCHED)
def test_one_candidate_is_what_it_would_be_alone(name):
    """But for codebooks of a group: alone, codes are those nearest to the rounded entries."""
    weights = weights_of()
    nearest = isinstance(family(name).members[0], FreeFormat)
    for width in (4, 8, 16):
        made = mix([candidate(weights, name)], np.zeros((9, 4), np.int64), width)
        alone = quantize(weights, format=name, group_size=16, scale_width=width)
        assert made.members == alone.members
        for field in ("codes", "format_ids", "scales", "zeros", "row_scales")[nearest:]:
            assert np.array_equal(getattr(made, field), getattr(alone, field)), field


def test_every_format_in_one_layer():
    """Every group has the codes of its own format, and its scales but for their second level."""
    weights = weights_of(rows=40, columns=120)
    names = SEARCHED
    candidates = [candidate(weights, name) for name in names]
    choices = np.random.default_rng(4).integers(0, len(names), (40, 8))
    choices[0, :] = range(8)
    made = mix(candidates, choices, 16)
    for n in range(40):
        for g in range(8):
            item = made.members[made.format_ids[n, g]]
            own = candidates[choices[n, g]]
            assert item == own.members[own.format_ids[n, g]]
            columns = slice(16 * g, min(16 * g + 16, 120))
            assert np.array_equal(made.codes[n, columns], own.codes[n, columns])
            assert made.zeros[n, g] == own.zeros[n, g]
            count = item.scale_count
            stored = made.scales[n, g] * made.row_scales[n].astype(np.float64)
            assert stored[:count] == pytest.approx(
                own.scales[n, g, :count], abs=float(made.row_scales[n]) * 0.51
            )
            assert not stored[count:].any()
    # The weights are those of each format by itself, but for half a step in the scales of both.
    back = made.dequantize()
    for index, name in enumerate(names):
        alone = quantize(weights, format=name, group_size=16, scale_width=16)
        peak = max(item.peak for item in alone.members)
        bound = 0.51 * peak * (made.row_scales + alone.row_scales)[:, None]
        chosen = np.repeat(choices == index, 16, axis=1)[:, :120]
        assert (np.abs(back - alone.dequantize()) <= bound)[chosen].all()


def test_candidates_that_nobody_has_leave_no_trace():
    weights = weights_of()
    candidates = [candidate(weights, name) for name in ("int2", "bcq4_asym", "bitmod3")]
    choices = np.zeros((9, 4), np.int64)
    choices[2] = 2
    made = mix(candidates, choices, 8)
    assert made.members == (*family("int2").members, *family("bitmod3").members)
    assert made.scales.shape == (9, 4, 1)
    assert made.code_bits == (8 * 2 + 3) * 56


def test_bad_choices():
    weights = weights_of()
    two = [candidate(weights, "int2"), candidate(weights, "int3")]
    with pytest.raises(ValueError, match=r"^Choices must have one candidate a group, shape"):
        mix(two, np.zeros((9, 5), np.int64), 8)
    with pytest.raises(ValueError, match=r"^Choices must be from 0 to 1$"):
        mix(two, np.full((9, 4), 2), 8)
    with pytest.raises(ValueError, match=r"^Candidates must have the same shape and group size$"):
        mix([two[0], candidate(weights, "int3", 8)], np.zeros((9, 4), np.int64), 8)
