"""Which lane gets which row of the weight stream."""

import numpy as np
import numpy.typing as npt

__all__ = ["deal_rows"]

_EXCHANGES = 4  # at most, times the lanes, in the whole layer


def deal_rows(work: npt.NDArray[np.int64], output_lanes: int) -> npt.NDArray[np.int64]:
    """Give each block's rows to lanes, the longest first, each to the lane that it fits best.

    That is the lane that has had least where the row has most: least by the sum over all measures
    and tiles of the lane's work so far times the row's, with all tiles together as one more. Then
    rows of the lane that has most are exchanged with others of their block, as far as that evens
    lanes out.

    Parameters
    ----------
    work : int array, shape (blocks, lanes, measures, tiles)
        Work of each row, by whatever is to be even.
    output_lanes : int
        Rows that leave together: they go to lanes that differ modulo this.

    Returns
    -------
    int array, shape (blocks, lanes)
        Row of its block that each lane has.
    """
    blocks, lanes, *_ = work.shape
    if (work == work[0, 0]).all():
        return np.tile(np.arange(lanes), (blocks, 1))
    work = np.concatenate([work, work.sum(axis=3, keepdims=True)], axis=3)
    total = work[..., -1].sum(axis=2)
    work = work.reshape(blocks, lanes, -1)
    places = np.empty((blocks, lanes), dtype=np.int64)
    load = np.zeros(work.shape[1:], dtype=np.int64)
    for block in range(blocks):
        order = np.argsort(-total[block], kind="stable")
        places[block] = _deal_block(work[block], order, load, output_lanes)
        load += work[block, places[block]]
    _exchange(places, work, load, output_lanes)
    return places


def _exchange(
    places: npt.NDArray[np.int64],
    work: npt.NDArray[np.int64],
    load: npt.NDArray[np.int64],
    output_lanes: int,
) -> None:
    """Exchange rows of the lane that has most with rows of others while that evens them out."""
    lanes = len(load)
    own = np.take_along_axis(work, places[:, :, None], axis=1)
    sets, parts = np.arange(lanes) % output_lanes, places // output_lanes
    for _ in range(_EXCHANGES * lanes):
        lane = int(load.sum(axis=1).argmax())
        more = own[:, [lane]] - own
        gain = -(more * (more + load - load[lane])).sum(axis=2)
        gain[(parts != parts[:, [lane]]) & (sets != sets[lane])] = 0
        block, other = np.unravel_index(gain.argmax(), gain.shape)
        if gain[block, other] <= 0:
            return
        load[lane] -= more[block, other]
        load[other] += more[block, other]
        for array in (places, parts, own):
            array[block, [lane, other]] = array[block, [other, lane]]


def _deal_block(
    work: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    load: npt.NDArray[np.int64],
    output_lanes: int,
) -> npt.NDArray[np.int64]:
    """Deal one block's rows, in an order, to lanes that have so much to do already."""
    lanes = len(work)
    sets = np.arange(lanes) % output_lanes
    row_of = np.empty(lanes, dtype=np.int64)
    free = np.ones(lanes, dtype=bool)
    set_free = np.ones((lanes // output_lanes, output_lanes), dtype=bool)  # for each part
    for row in order:
        part = row // output_lanes
        fit = load @ work[row]
        fit[~(free & set_free[part, sets])] = np.iinfo(np.int64).max
        lane = fit.argmin()
        row_of[lane] = row
        free[lane] = set_free[part, sets[lane]] = False
    return row_of
