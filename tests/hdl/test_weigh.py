# amaranth: UnusedElaboratable=no
"""Sums times coefficients, by shifts and adds."""

import itertools
from dataclasses import replace

import pytest
from amaranth import Module, Signal, signed

from lutra.formats import CATALOG
from lutra.hdl.weigh import magnitude_slots, slot_choices, weigh, weigh_latency

TOTALS = (-128, -127, -65, -1, 0, 1, 2, 77, 126, 127)


def _products(hdl, coefficients, slots, totals=TOTALS, levels=2):
    """Return each total times each coefficient, as a core has it: signs are taken before."""
    m = Module()
    total, number, o = Signal(signed(8)), Signal(range(len(coefficients))), Signal(signed(48))
    choices = slot_choices(m, slots, number, name="coefficient")
    m.d.comb += o.eq(weigh(m, total, slots, choices, levels=levels, name="weighted"))
    products = {}

    async def bench(ctx):
        for (index, factor), value in itertools.product(enumerate(coefficients), totals):
            ctx.set(number, index)
            ctx.set(total, value)
            await ctx.tick().repeat(1 + weigh_latency(slots, levels=levels))
            products[factor, value] = ctx.get(o) * (1 if factor > 0 else -1)

    hdl.simulate(m, bench)
    return products


def _right(coefficients, totals=TOTALS):
    return {(c, value): c * value for c, value in itertools.product(coefficients, totals)}


ALL = [factor for factor in range(-17, 18) if factor]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_every_coefficient_together(hdl, levels):
    assert _products(hdl, ALL, magnitude_slots(ALL), levels=levels) == _right(ALL)


@pytest.mark.parametrize("factor", ALL)
def test_every_coefficient_alone(hdl, factor):
    assert _products(hdl, [factor], magnitude_slots([factor])) == _right([factor])


MEMBERS = list(dict.fromkeys(m for entry in CATALOG.values() for m in entry.members))


@pytest.mark.parametrize("item", MEMBERS, ids=lambda item: item.name)
def test_coefficients_of_formats(hdl, item):
    coefficients = sorted({plane.coefficient for plane in item.planes})
    slots = magnitude_slots(coefficients)
    assert _products(hdl, coefficients, slots) == _right(coefficients)


def test_a_missing_slot_is_found(hdl):
    """The numbers of 9 and 13 are wrong without their last slot, those of 8 are not."""
    coefficients = [8, 9, 13]
    slots = magnitude_slots(coefficients)
    right, wrong = _right(coefficients), _products(hdl, coefficients, slots[:-1])
    assert {key[0] for key in right if right[key] != wrong[key]} == {13}
    wrong = _products(hdl, coefficients, slots[:1])
    assert {key[0] for key in right if right[key] != wrong[key]} == {9, 13}


def test_a_wrong_term_is_found(hdl):
    """A slot that takes off what it is to add."""
    slots = magnitude_slots([9, 4])
    term = slots[1][0]
    assert term
    slots[1][0] = replace(term, sign=-1)
    assert _products(hdl, [9, 4], slots) != _right([9, 4])


def test_powers_of_two_take_one_slot():
    assert len(magnitude_slots([1, -2, 4, -8, 128])) == 1
    assert len(magnitude_slots([1, 17])) == 2
    assert len(magnitude_slots([13, 4])) == 3
    assert len(magnitude_slots([7])) == 2  # 8 - 1
    with_signs = magnitude_slots([15])
    assert [(slot[0].sign, slot[0].exponent) for slot in with_signs if slot[0]] == [(1, 4), (-1, 0)]


def test_slots_add_up():
    for slots, factor in zip(zip(*magnitude_slots(ALL), strict=True), ALL, strict=True):
        total = sum(term.sign << term.exponent for term in slots if term)
        assert total == abs(factor)
