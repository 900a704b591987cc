"""Rows dealt to lanes: each row once, as outputs allow it, with even work in every tile."""

import numpy as np
import pytest

from lutra.formats import deal
from lutra.formats.deal import deal_rows


def _dealt(cycles, output_lanes):
    """Deal, check what any deal must keep to, and return the lanes' cycles of each tile."""
    places = deal_rows(cycles[:, :, None], output_lanes)
    blocks, lanes, _ = cycles.shape
    assert places.shape == (blocks, lanes)
    assert (np.sort(places, axis=1) == np.arange(lanes)).all()
    for first in range(output_lanes):  # lanes that are the same modulo it have a row of each beat
        beats = np.sort(places[:, first::output_lanes] // output_lanes, axis=1)
        assert (beats == np.arange(lanes // output_lanes)).all()
    return np.take_along_axis(cycles, places[:, :, None], axis=1).sum(axis=0)


SHAPES = [(4, 1), (4, 2), (4, 4), (6, 3), (8, 4), (16, 4), (5, 5), (7, 1)]


@pytest.mark.parametrize(("lanes", "output_lanes"), SHAPES)
@pytest.mark.parametrize("tiles", [1, 5])
@pytest.mark.parametrize("seed", range(3))
def test_every_deal_is_allowed_and_even(lanes, output_lanes, tiles, seed):
    rng = np.random.default_rng(seed)
    cycles = rng.integers(2, 9, (64, lanes, tiles)) * 4
    work = _dealt(cycles, output_lanes)
    assert np.ptp(work.sum(axis=1)) <= 6 * 4, f"seed {seed}"  # what one group may differ by
    in_order = cycles.sum(axis=0)
    assert np.ptp(work.sum(axis=1)) <= np.ptp(in_order.sum(axis=1))
    assert np.ptp(work, axis=0).max() <= max(48, np.ptp(in_order, axis=0).max()), f"seed {seed}"


@pytest.mark.parametrize(("lanes", "output_lanes"), [(4, 1), (8, 4), (16, 4)])
@pytest.mark.parametrize("order", ["in turn", "at random"])
def test_halves_that_are_opposite(lanes, output_lanes, order):
    """Rows of equal work, half of which have most of it first: every tile is even all the same."""
    kinds = np.arange(64 * lanes) % 2
    if order == "at random":
        np.random.default_rng(1).shuffle(kinds)
    first, last = [2] * 4 + [8] * 4, [8] * 4 + [2] * 4
    cycles = np.where(kinds[:, None], first, last).reshape(64, lanes, 8)
    work = _dealt(cycles, output_lanes)
    assert np.ptp(work, axis=0).max() <= 8 - 2
    assert len(set(work.sum(axis=1).tolist())) == 1


def test_rows_that_are_alike_stay_where_they_are():
    cycles = np.tile([3, 5, 1], (9, 8, 1))
    assert (deal_rows(cycles[:, :, None], 2) == np.arange(8)).all()


def test_one_long_row_finds_the_idle_lane():
    """Whoever has had the long row of one block gets the short row of the next."""
    cycles = np.full((2, 4, 1), 10)
    cycles[0, 2] = 18
    cycles[1, 3] = 2
    work = _dealt(cycles, 1)
    assert work[:, 0].tolist() == [20, 20, 20, 20]


def test_every_measure_counts():
    """Rows of equal cycles and unequal words, and the other way round."""
    rng = np.random.default_rng(2)
    words, cycles = rng.integers(1, 9, (2, 64, 8, 3))
    work = np.stack([words, np.maximum(words, cycles)], axis=2)
    places = deal_rows(work, 4)
    dealt = np.take_along_axis(work, places[:, :, None, None], axis=1).sum(axis=(0, 3))
    in_order = work.sum(axis=(0, 3))
    assert (np.ptp(dealt, axis=0) <= 8).all()
    assert (np.ptp(in_order, axis=0) > 30).all()


def test_exchanges_even_out_what_the_last_rows_left(monkeypatch):
    """They never make lanes less even, and mostly more."""
    better = 0
    for seed in range(20):
        cycles = np.random.default_rng(seed).integers(2, 9, (8, 8, 2)) * 4
        spread = []
        for exchanges in (0, 4):
            monkeypatch.setattr(deal, "_EXCHANGES", exchanges)
            work = _dealt(cycles, 4)
            spread.append((work**2).sum() + (work.sum(axis=1) ** 2).sum())
        assert spread[1] <= spread[0], f"seed {seed}"
        better += spread[1] < spread[0]
    assert better > 10
