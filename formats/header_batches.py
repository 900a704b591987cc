"""Record headers of the weight stream, put into slots and these into batches."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .lane_order import LaneOrder
from .layout import StreamLayout

__all__ = ["header_batches"]


def header_batches(
    layout: StreamLayout,
    formats: npt.NDArray[np.uint8],
    order: LaneOrder,
    scales: npt.NDArray[np.int32],
    zeros: npt.NDArray[np.uint8],
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the words of all header batches, lane by lane.

    Parameters
    ----------
    layout : StreamLayout
        The engine's stream.
    formats : uint8 array, shape (lanes, records)
        Layout's number of the format of each record.
    order : LaneOrder
        Where each header stands.
    scales : int array, shape (lanes, records, C)
        Group scales; C is the most that any has.
    zeros : uint8 array, shape (lanes, records)
        Zero-points.

    Yields
    ------
    uint8 array, shape (words, width / 8)
        Byte 0 holds the lowest bits.
    """
    slot_width, (words, _) = layout.slot_width, layout.batch_shape
    headers = _header_bits(layout, formats, scales, zeros)
    slots = np.array(layout.header_slots)[formats]
    for lane, taken in enumerate(slots):
        batch, slot = order.batch[lane], order.slot[lane]
        room = np.zeros((batch[-1] + 1, words * layout.width), dtype=np.uint8)
        _announce(layout, room, formats[lane], batch, slot + taken)
        for part in range(layout.max_slots):
            has = taken > part
            bits = headers[lane, has, part * slot_width : (part + 1) * slot_width]
            columns = (slot[has] + part)[:, None] * slot_width + np.arange(slot_width)
            room[batch[has, None], columns] = bits
        packed = np.packbits(room, axis=-1, bitorder="little")
        yield packed.reshape(-1, layout.width // 8)


def _announce(
    layout: StreamLayout,
    room: npt.NDArray[np.uint8],
    formats: npt.NDArray[np.uint8],
    batch: npt.NDArray[np.int64],
    after: npt.NDArray[np.int64],
) -> None:
    """Put the format of a header that did not fit where it would have begun."""
    last = np.flatnonzero(np.diff(batch) & (after[:-1] < layout.batch_shape[1]))
    bits = np.arange(layout.format_width)
    room[batch[last, None], after[last, None] * layout.slot_width + bits] = (
        formats[last + 1, None] >> bits & 1
    )


def _header_bits(
    layout: StreamLayout,
    formats: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.int32],
    zeros: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    """Bits of every record's header, ``(lanes, records, bits of the most slots)``."""
    bits = np.zeros((*formats.shape, layout.max_slots * layout.slot_width), dtype=np.uint8)
    for number, item in enumerate(layout.members):
        own = formats == number
        if not own.any():
            continue
        values = {"format": formats[own], "zero": zeros[own]}
        for index in range(item.scale_count):
            values[f"scale_{index}"] = scales[own, index]
        position = 0
        for name, width in layout.record_header(item).items():
            value = values[name].astype(np.int64)[:, None] >> np.arange(width) & 1
            bits[own, position : position + width] = value
            position += width
    return bits
