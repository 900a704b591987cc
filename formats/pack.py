"""The packer: a quantised matrix becomes the weight stream of one engine."""

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .layout import (
    LAYER_HEADER,
    LAYER_MAGIC,
    ROW_SCALE_WIDTH,
    STREAM_VERSION,
    TILE_HEADER,
    TILE_MAGIC,
    StreamLayout,
)
from .matrix import QuantizedMatrix

__all__ = ["PackedLayer", "pack"]

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PackedLayer:
    """A layer as hardware reads it.

    Parameters
    ----------
    beats : uint8 array, shape (beats, lanes * width / 8)
        Words of the stream in order; byte 0 holds the lowest bits.
    rows, columns : int
        N and K.
    useful_lane_cycles : int
        Plane slices of real rows: what the lanes must do whatever the schedule.
    lanes : int
        Lanes of the engine that it is packed for.
    """

    beats: npt.NDArray[np.uint8]
    rows: int
    columns: int
    useful_lane_cycles: int
    lanes: int

    @property
    def bits(self) -> int:
        """Bits of the whole stream, headers, padding and checksums included."""
        return self.beats.size * 8

    @property
    def useful_cycles(self) -> float:
        """Cycles that an engine without any overhead would take."""
        return self.useful_lane_cycles / self.lanes


def pack(matrix: QuantizedMatrix, layout: StreamLayout) -> PackedLayer:
    """Pack a layer for an engine.

    Parameters
    ----------
    matrix : QuantizedMatrix
        The layer; any N and K up to the layout's largest.
    layout : StreamLayout
        The engine's stream.

    Returns
    -------
    PackedLayer

    Raises
    ------
    :exc:`ValueError`
        If the layer has a format, a group size, scales or a shape that the layout was not made for.
    """
    return _Packer(matrix, layout).pack()


class _Packer:
    """The steps of :func:`pack`, with what they share."""

    def __init__(self, matrix: QuantizedMatrix, layout: StreamLayout) -> None:
        self.matrix, self.layout = matrix, layout
        self._check()
        self.blocks = -(-matrix.rows // layout.lanes)
        self.slices = -(-matrix.columns // layout.width)
        self.segment_slices = (
            layout.tile_slices if matrix.groups == 1 else layout.segment_slices(matrix.group_size)
        )
        ids = np.array([layout.members.index(item) for item in matrix.members], dtype=np.uint8)
        # Rows of padding take the last row's formats, so that they cost no wider codes.
        self.format_ids = self._pad_rows(ids[matrix.format_ids], like_last=True)
        self.scales = self._pad_rows(matrix.scales)
        self.zeros = self._pad_rows(matrix.zeros)

    def pack(self) -> PackedLayer:
        layout = self.layout
        tiles = range(0, self.slices, layout.tile_slices)
        sections = [self._section(self._layer_header(len(tiles)), self._row_scales())]
        useful = 0
        for index, first in enumerate(tiles):
            last = min(first + layout.tile_slices, self.slices)
            payload, cycles = self._tile(first, last)
            header = TILE_HEADER.pack(
                magic=TILE_MAGIC, index=index, slices=last - first, flags=0, beats=len(payload)
            )
            sections.append(self._section(self._words(header, TILE_HEADER.width), payload))
            useful += cycles
        return PackedLayer(
            np.concatenate(sections), self.matrix.rows, self.matrix.columns, useful, layout.lanes
        )

    def _check(self) -> None:
        matrix, layout = self.matrix, self.layout
        known = ", ".join(item.name for item in layout.members)
        for item in matrix.members:
            if item not in layout.members:
                raise ValueError(
                    f"Format {item.name!r} is not one that the configuration decodes: {known}"
                )
        if matrix.groups > 1 and matrix.group_size not in layout.group_sizes:
            sizes = ", ".join(map(str, layout.group_sizes))
            raise ValueError(
                f"Group size {matrix.group_size} must be one of the configuration's "
                f"({sizes or 'none'}) or a whole row of {matrix.columns}"
            )
        if matrix.rows > layout.max_rows or matrix.columns > layout.max_columns:
            raise ValueError(
                f"A layer of {matrix.rows} x {matrix.columns} is larger than the configuration's "
                f"limit of {layout.max_rows} x {layout.max_columns}"
            )
        limit = (1 << layout.scale_width) - 1
        largest = int(np.abs(matrix.scales).max())
        if largest > limit:
            raise ValueError(
                f"A group scale of {largest} needs scale_width {largest.bit_length()}; the "
                f"configuration has {layout.scale_width}"
            )

    def _pad_rows(self, array: npt.NDArray, *, like_last: bool = False) -> npt.NDArray:
        """Add rows of zeros, or like the last, up to whole blocks; split into (blocks, lanes)."""
        lanes = self.layout.lanes
        padded = np.zeros((self.blocks * lanes, *array.shape[1:]), dtype=array.dtype)
        if like_last:
            padded[:] = array[-1]
        padded[: len(array)] = array
        return padded.reshape(self.blocks, lanes, *array.shape[1:])

    # -- sections ------------------------------------------------------------------------------

    def _section(self, *parts: _Bytes) -> _Bytes:
        """Join beats and append the CRC-32 of their bytes as one more beat."""
        body = np.concatenate(parts)
        return np.concatenate([body, self._words(zlib.crc32(body.tobytes()), 32)])

    def _words(self, value: int, width: int) -> _Bytes:
        count = self.layout.beats_for(width)
        size = self.layout.beat_width // 8
        raw = value.to_bytes(count * size, "little")
        return np.frombuffer(raw, dtype=np.uint8).reshape(count, size)

    def _layer_header(self, tiles: int) -> _Bytes:
        header = LAYER_HEADER.pack(
            magic=LAYER_MAGIC,
            version=STREAM_VERSION,
            flags=0,
            layout=self.layout.fingerprint,
            rows=self.matrix.rows,
            columns=self.matrix.columns,
            blocks=self.blocks,
            segment_slices=self.segment_slices,
            tiles=tiles,
        )
        return self._words(header, LAYER_HEADER.width)

    def _row_scales(self) -> _Bytes:
        """Row scales, ``row_scale_beats`` beats a block."""
        layout = self.layout
        scales = self._pad_rows(self.matrix.row_scales)
        lane_bytes = layout.row_scale_beats * layout.width // 8
        raw = np.zeros((self.blocks, layout.lanes, lane_bytes), dtype=np.uint8)
        little = scales.astype("<f4")
        raw[..., : ROW_SCALE_WIDTH // 8] = little.view(np.uint8).reshape(*scales.shape, -1)
        return self._lane_beats(raw)

    def _lane_beats(self, raw: _Bytes) -> _Bytes:
        """Cut each lane's bytes (..., lanes, bytes) into beats of ``width`` bits a lane."""
        lane_size = self.layout.width // 8
        cut = raw.reshape(-1, self.layout.lanes, raw.shape[-1] // lane_size, lane_size)
        return cut.swapaxes(1, 2).reshape(-1, self.layout.beat_width // 8)

    # -- tiles ---------------------------------------------------------------------------------

    def _tile(self, first: int, last: int) -> tuple[_Bytes, int]:
        """Beats of the slices ``first``..``last - 1`` of all rows, and their useful lane cycles."""
        layout, matrix = self.layout, self.matrix
        starts = np.arange(first, last, self.segment_slices)
        group = starts * layout.width // matrix.group_size
        ids = self.format_ids[:, :, group]  # (blocks, lanes, segments)
        lengths = np.minimum(starts + self.segment_slices, last) - starts

        code_widths = np.array([item.code_width for item in layout.members])[ids].max(axis=1)
        codes = self._code_planes(first, last)  # (blocks, slices, bits, bytes of a beat)
        slice_widths = np.repeat(code_widths, lengths, axis=1)
        used = np.arange(layout.max_code_width) < slice_widths[..., None]
        code_beats = codes[used]
        record_beats = (code_widths * lengths).reshape(-1)

        headers = self._header_batches(ids, group)
        record_of_beat = np.repeat(np.arange(record_beats.size), record_beats)
        # A batch stands before the codes of the record that precedes its first one, so that its
        # headers are at hand when that record ends; the first batch stands before everything.
        batch_beats, batch_records = layout.batch_shape
        batch_first = np.arange(0, record_beats.size, batch_records)
        order = np.concatenate([
            np.repeat(np.maximum(batch_first - 1, 0) * 2, batch_beats),
            record_of_beat * 2 + 1,
        ])
        payload = np.concatenate([headers, code_beats])[np.argsort(order, kind="stable")]

        planes = np.array([len(item.planes) for item in layout.members])[ids] * lengths
        return payload, int(planes.reshape(-1, lengths.size)[: matrix.rows].sum())

    def _code_planes(self, first: int, last: int) -> _Bytes:
        """Bit ``b`` of the codes of each slice: ``(blocks, slices, bits, bytes of a beat)``."""
        layout = self.layout
        columns = slice(first * layout.width, last * layout.width)
        part = self._pad_rows(self.matrix.codes[:, columns])
        slices = last - first
        full = np.zeros((self.blocks, layout.lanes, slices * layout.width), dtype=np.uint8)
        full[..., : part.shape[-1]] = part
        shape = (self.blocks, layout.lanes, slices, layout.width // 8)
        planes = np.empty((self.blocks, slices, layout.max_code_width, *shape[1::2]), np.uint8)
        for bit in range(layout.max_code_width):
            packed = np.packbits(full >> bit & 1, axis=-1, bitorder="little").reshape(shape)
            planes[:, :, bit] = packed.transpose(0, 2, 1, 3)
        return planes.reshape(*planes.shape[:3], -1)

    def _header_batches(self, ids: npt.NDArray[np.uint8], group: npt.NDArray[np.int64]) -> _Bytes:
        """Beats of all header batches of a tile whose records have these formats and groups."""
        layout = self.layout
        fields = layout.record_header
        values = {"format": ids, "zero": self.zeros[:, :, group]}
        for index in range(layout.scale_count):
            has = index < self.scales.shape[-1]
            scale = self.scales[:, :, group, index] if has else np.zeros_like(ids)
            values[f"scale_{index}"] = scale.astype(np.int64) & ((1 << layout.scale_width + 1) - 1)
        bits = [
            (values[name].astype(np.int64)[..., None] >> np.arange(width) & 1).astype(np.uint8)
            for name, width in fields.items()
        ]
        # (blocks, lanes, segments, header bits) -> (lanes, records, header bits)
        headers = np.concatenate(bits, axis=-1).swapaxes(0, 1)
        headers = headers.reshape(layout.lanes, -1, fields.width)

        batch_beats, batch_records = layout.batch_shape
        batches = -(-headers.shape[1] // batch_records)
        room = np.zeros((batches, layout.lanes, batch_beats * layout.width), dtype=np.uint8)
        for record in range(batch_records):
            chosen = headers[:, record::batch_records].swapaxes(0, 1)
            offset = record * fields.width
            room[: len(chosen), :, offset : offset + fields.width] = chosen
        return self._lane_beats(np.packbits(room, axis=-1, bitorder="little"))
