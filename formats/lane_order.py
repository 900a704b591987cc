"""The order of words in a lane's stream: where header batches stand, and what they hold."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .layout import StreamLayout

__all__ = ["LaneOrder", "lane_order"]


class LaneOrder(NamedTuple):
    """Where the headers of every lane's records stand; arrays have shape (lanes, records)."""

    batch: npt.NDArray[np.int64]
    """Header batch that has the record's header."""
    slot: npt.NDArray[np.int64]
    """First of the batch's slots that the header takes."""
    batches_before: npt.NDArray[np.int64]
    """Batches that stand before the record's codes, behind those of the record before."""


def lane_order(layout: StreamLayout, formats: npt.NDArray[np.uint8]) -> LaneOrder:
    """Put headers into batches, and batches between the codes of records.

    A batch has as many headers as fit, and stands before the codes of the record that precedes its
    first one, so that its headers are at hand when that record ends; the first batch stands before
    everything.

    Parameters
    ----------
    layout : StreamLayout
        The engine's stream.
    formats : uint8 array, shape (lanes, records)
        Layout's number of the format of each record, in the order in which a lane takes them.
    """
    slots_of = np.array(layout.header_slots)[formats]
    slots = layout.batch_shape[1]
    if layout.max_slots == 1:  # the same for all lanes
        number = np.broadcast_to(np.arange(formats.shape[1]), formats.shape)
        batch, slot = number // slots, number % slots
    else:
        batch, slot = np.zeros(formats.shape, np.int64), np.zeros(formats.shape, np.int64)
        for record in range(1, formats.shape[1]):
            after = slot[:, record - 1] + slots_of[:, record - 1]
            used_up = after + slots_of[:, record] > slots
            batch[:, record] = batch[:, record - 1] + used_up
            slot[:, record] = np.where(used_up, 0, after)
    before = np.diff(batch, axis=1, append=batch[:, -1:])
    before[:, 0] += 1
    return LaneOrder(batch, slot, before)
