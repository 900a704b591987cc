"""The scaling law against figures that its authors publish."""

import math

import pytest

from lutra.quant import Layout, ScalingLaw

BEST = {
    3: "E1M1",
    4: "E2M1",
    5: "E2M2",
    6: "E3M2",
    7: "E3M3",
    8: "E4M3",
    9: "E4M4",
    10: "E5M4",
    12: "E6M5",
    16: "E8M7",
}


@pytest.mark.parametrize(("bits", "layout"), BEST.items())
def test_published_layouts(bits, layout):
    first = ScalingLaw.layouts(bits)[0]
    assert str(first) == layout
    assert first.bits == bits


@pytest.mark.parametrize(
    ("layout", "published"),
    [(Layout(8, 7), 1730e12), (Layout(4, 3), 27e12), (Layout(2, 1), 0.4e12)],
)
def test_published_critical_tokens(layout, published):
    found = ScalingLaw(parameters=1e9, block_log2=7).critical_tokens(layout)
    assert found == pytest.approx(published, rel=0.02)


def test_critical_tokens_are_where_the_loss_is_least():
    law = ScalingLaw(parameters=7e9, block_log2=7)
    critical = law.critical_tokens(Layout(2, 1))
    least = law.loss(Layout(2, 1), critical)
    assert law.loss(Layout(2, 1), critical * 1.05) > least
    assert law.loss(Layout(2, 1), critical / 1.05) > least


def test_by_hand():
    law = ScalingLaw(parameters=1e8, block_log2=7)
    in_float = 69.2343 / 1e8**0.2368 + 68973.0621 / 1e10**0.5162 + 1.9061
    assert law.float_loss(1e10) == pytest.approx(in_float, rel=1e-12)
    cost = 1e10**0.5162 / 1e8**0.2368 * 7 / (11334.5197 * 2.5**3.1926 * 1.5**2.9543)
    assert law.loss(Layout(2, 1), 1e10) == pytest.approx(in_float + cost, rel=1e-12)


@pytest.mark.parametrize("bits", range(3, 17))
def test_layouts_are_sorted_by_cost(bits):
    law = ScalingLaw(parameters=1e9, block_log2=7)
    layouts = law.layouts(bits)
    costs = [law.cost(layout, 1e11) for layout in layouts]
    assert costs == sorted(costs)
    assert sorted(layout.exponent for layout in layouts) == list(range(1, bits))
    exponent, mantissa = law.ideal_bits(bits)
    assert exponent + mantissa == pytest.approx(bits - 1)
    assert abs(layouts[0].exponent - exponent) < 1


def test_no_exponent_bits_are_refused():
    with pytest.raises(ValueError, match=r"from one exponent bit .* not for E0M3$"):
        Layout(0, 3)
    with pytest.raises(ValueError, match=r"not for E3M-1$"):
        Layout(3, -1)


@pytest.mark.parametrize("bits", [2, 17])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=rf"^Bits must be in 3\.\.16, not {bits}$"):
        ScalingLaw.layouts(bits)


@pytest.mark.parametrize("count", [0, -1.0, math.inf, math.nan])
def test_other_numbers_are_refused(count):
    with pytest.raises(ValueError, match=r"^Parameters must be a number of at least 1"):
        ScalingLaw(parameters=count, block_log2=7)
    law = ScalingLaw(parameters=1e9, block_log2=7)
    with pytest.raises(ValueError, match=r"^Tokens must be a number of at least 1"):
        law.loss(Layout(2, 1), count)


@pytest.mark.parametrize("block_log2", [0, -1, math.inf])
def test_blocks_of_one_are_refused(block_log2):
    with pytest.raises(ValueError, match=r"^A block must be of more than one weight$"):
        ScalingLaw(parameters=1e9, block_log2=block_log2)
