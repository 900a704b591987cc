"""The packer: a quantised matrix becomes the weight stream of one engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .beat_fold import BeatFold
from .codebook import CodebookFormat
from .deal import deal_rows
from .header_batches import header_batches
from .lane_order import lane_order
from .layout import (
    CRC_WIDTH,
    FRAME_BEATS,
    LAYER_HEADER,
    LAYER_MAGIC,
    ROW_SCALE_WIDTH,
    SPAN_HEADER,
    SPAN_MAGIC,
    STREAM_VERSION,
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
    formats : uint8 array, shape (lanes, records)
        Layout's number of the format of each record, in the order in which a lane takes them.
    slices : int array, shape (records,)
        Slices of each record.
    places : int array, shape (blocks, lanes)
        Row of its block that each lane has.
    span_tiles : int
        Tiles after which lanes have had equally many words.
    useful_cycles : float
        Cycles that a lane would take without any overhead, if all had equal work: for its words of
        codes, or for its steps where they take longer.
    """

    beats: npt.NDArray[np.uint8]
    rows: int
    columns: int
    formats: npt.NDArray[np.uint8]
    slices: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    span_tiles: int
    useful_cycles: float

    @property
    def bits(self) -> int:
        """Bits of the whole stream, headers, padding and checksums included."""
        return self.beats.size * 8


def pack(
    matrix: QuantizedMatrix, layout: StreamLayout, cycles: Sequence[int] | None = None
) -> PackedLayer:
    """Pack a layer for an engine.

    Rows of a block are dealt to lanes so that all have as equally much to do as is possible.

    Parameters
    ----------
    matrix : QuantizedMatrix
        The layer; any N and K up to the layout's largest.
    layout : StreamLayout
        The engine's stream.
    cycles : sequence of int, optional
        Cycles that a lane takes for a slice of each of the layout's members, in their order, beside
        reading it, which is one for each bit of a code; by default reading is all.

    Returns
    -------
    PackedLayer

    Raises
    ------
    :exc:`ValueError`
        If the layer has a format, a group size, scales or a shape that the layout was not made for.
    """
    reading = np.array([item.code_width for item in layout.members])
    return _Packer(matrix, layout, reading if cycles is None else np.array(cycles)).pack()


class _Packer:
    """The steps of :func:`pack`, with what they share."""

    def __init__(
        self, matrix: QuantizedMatrix, layout: StreamLayout, cycles: npt.NDArray[np.int64]
    ) -> None:
        self.matrix, self.layout = matrix, layout
        self.fold = BeatFold(layout.beat_width)
        ids = np.array([layout.number_of(item) for item in matrix.members], dtype=np.uint8)
        self._check()
        self.blocks = -(-matrix.rows // layout.lanes)
        self.slices = -(-matrix.columns // layout.width)
        self.segment_slices = (
            layout.tile_slices if matrix.groups == 1 else layout.segment_slices(matrix.group_size)
        )
        # Segments, by their first slice and their slices; they do not cross tiles.
        within = np.arange(self.slices) % layout.tile_slices
        self.starts = np.flatnonzero(within % self.segment_slices == 0)
        self.lengths = np.append(self.starts[1:], self.slices) - self.starts
        self.groups = self.starts * layout.width // matrix.group_size
        # Records in the order in which a lane takes them: by tile, block, segment.
        segment, block = np.meshgrid(np.arange(len(self.starts)), np.arange(self.blocks))
        tile = self.starts[segment] // layout.tile_slices
        order = np.lexsort((segment.ravel(), block.ravel(), tile.ravel()))
        self.segment, self.block = segment.ravel()[order], block.ravel()[order]

        # Rows of padding take the last row's formats; whoever has them has nothing more to do.
        formats = self._pad_rows(ids[matrix.format_ids[:, self.groups]], like_last=True)
        code_widths = np.array([item.code_width for item in layout.members])
        of_rows = formats.reshape(-1, len(self.lengths))[: matrix.rows]
        least = max((each[of_rows] @ self.lengths).sum() for each in (code_widths, cycles))
        self.useful_cycles = least / layout.lanes
        self.places = deal_rows(self._work(formats, cycles), layout.output_lanes)
        self.formats = self._records(self._dealt(formats))
        self.order = lane_order(layout, self.formats)

    def pack(self) -> PackedLayer:
        words, ends = self._lane_words()
        span_tiles = self._span_tiles(ends)
        last = np.minimum(np.arange(0, ends.shape[1], span_tiles) + span_tiles, ends.shape[1]) - 1
        spans = self._spans(words, ends[:, last])
        return PackedLayer(
            beats=np.concatenate([
                self._section(
                    self._layer_header(span_tiles), self._codebooks(), self._row_scales()
                ),
                *(beats for index, span in enumerate(spans) for beats in self._frames(index, span)),
            ]),
            rows=self.matrix.rows,
            columns=self.matrix.columns,
            formats=self.formats,
            slices=self.lengths[self.segment],
            places=self.places,
            span_tiles=span_tiles,
            useful_cycles=float(self.useful_cycles),
        )

    def _check(self) -> None:
        matrix, layout = self.matrix, self.layout
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
        if matrix.outliers is not None:
            raise ValueError(
                f"Engines have no path for the {len(matrix.outliers.values)} outliers of a layer; "
                f"the golden model and PyTorch compute it"
            )
        limit = (1 << layout.scale_width) - 1
        largest = int(np.abs(matrix.scales).max())
        if largest > limit:
            raise ValueError(
                f"A group scale of {largest} needs scale_width {largest.bit_length()}; the "
                f"configuration has {layout.scale_width}"
            )

    # -- which lane has which row ----------------------------------------------------------------

    def _work(
        self, formats: npt.NDArray[np.uint8], cycles: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return the bits of each row in each tile, and its cycles in the same unit."""
        layout = self.layout
        code_widths = np.array([item.code_width for item in layout.members])[formats]
        header_bits = np.array(layout.header_slots)[formats] * layout.slot_width
        bits = code_widths * self.lengths * layout.width + header_bits
        work = np.stack([bits, cycles[formats] * self.lengths * layout.width], axis=2)
        first = np.flatnonzero(self.starts % layout.tile_slices == 0)
        return np.add.reduceat(work, first, axis=3)

    def _dealt(self, array: npt.NDArray) -> npt.NDArray:
        """Turn (blocks, row of block, ...) into (blocks, lane, ...)."""
        index = self.places.reshape(*self.places.shape, *[1] * (array.ndim - 2))
        return np.take_along_axis(array, index, axis=1)

    def _pad_rows(self, array: npt.NDArray, *, like_last: bool = False) -> npt.NDArray:
        """Add rows of zeros, or like the last, up to whole blocks; split into (blocks, lanes)."""
        lanes = self.layout.lanes
        padded = np.zeros((self.blocks * lanes, *array.shape[1:]), dtype=array.dtype)
        if like_last:
            padded[:] = array[-1]
        padded[: len(array)] = array
        return padded.reshape(self.blocks, lanes, *array.shape[1:])

    def _records(self, array: npt.NDArray) -> npt.NDArray:
        """Turn (blocks, lanes, segments, ...) into (lanes, records, ...)."""
        return array[self.block, :, self.segment].swapaxes(0, 1)

    # -- sections ------------------------------------------------------------------------------

    def _section(self, *parts: _Bytes) -> _Bytes:
        """Join beats and append their checksum as one more beat."""
        body = np.concatenate(parts)
        return np.concatenate([body, self._words(self.fold.checksum(body), CRC_WIDTH)])

    def _words(self, value: int, width: int) -> _Bytes:
        count = self.layout.beats_for(width)
        size = self.layout.beat_width // 8
        raw = value.to_bytes(count * size, "little")
        return np.frombuffer(raw, dtype=np.uint8).reshape(count, size)

    def _layer_header(self, span_tiles: int) -> _Bytes:
        header = LAYER_HEADER.pack(
            magic=LAYER_MAGIC,
            version=STREAM_VERSION,
            flags=0,
            layout=self.layout.fingerprint,
            rows=self.matrix.rows,
            columns=self.matrix.columns,
            blocks=self.blocks,
            segment_slices=self.segment_slices,
            tiles=-(-self.slices // self.layout.tile_slices),
            span_tiles=span_tiles,
        )
        return self._words(header, LAYER_HEADER.width)

    def _codebooks(self) -> _Bytes:
        """Entries of every slot, in order of ids; zeros where the layer has no codebook for it."""
        fields = self.layout.codebook_entry
        word = position = 0
        for slot in self.layout.codebooks:
            entries: list[dict[str, int]] = [dict.fromkeys(fields, 0)] * (1 << slot.code_width)
            for item in self.matrix.members:
                if isinstance(item, CodebookFormat) and item.code_width == slot.code_width:
                    entries = [self._codebook_entry(item, code) for code in range(len(entries))]
            for entry in entries:
                word |= fields.pack(**entry) << position
                position += fields.width
        return self._words(word, position)

    def _codebook_entry(self, item: CodebookFormat, code: int) -> dict[str, int]:
        entry = {"value": item.values[code] & (1 << self.layout.codebook_width) - 1}
        for index in range(self.layout.codebook_terms):
            terms = item.terms[code][index : index + 1]
            entry[f"size_{index}"] = terms[0].exponent + 1 if terms else 0
            entry[f"negative_{index}"] = int(terms[0].sign < 0) if terms else 0
        return entry

    def _row_scales(self) -> _Bytes:
        """Row scales, ``row_scale_beats`` beats a block; before every few blocks, their places."""
        layout = self.layout
        scales = self._dealt(self._pad_rows(self.matrix.row_scales))
        lane_bytes = layout.row_scale_beats * layout.width // 8
        raw = np.zeros((self.blocks, layout.lanes, lane_bytes), dtype=np.uint8)
        little = scales.astype("<f4")
        raw[..., : ROW_SCALE_WIDTH // 8] = little.view(np.uint8).reshape(*scales.shape, -1)
        scale_beats = self._lane_beats(raw)
        if not layout.places_of_beat:
            return scale_beats
        return np.concatenate(list(self._interleave_places(scale_beats)))

    def _interleave_places(self, scale_beats: _Bytes) -> Iterator[_Bytes]:
        layout, step = self.layout, self.layout.places_of_beat
        part, output = np.divmod(self.places, layout.output_lanes)
        choices = output | part << layout.place["output"]
        width = layout.place.width
        for first in range(0, self.blocks, step):
            lane_bits = np.zeros((layout.lanes, layout.width), dtype=np.uint8)
            for index, block in enumerate(choices[first : first + step]):
                bits = block[:, None] >> np.arange(width) & 1
                lane_bits[:, index * width : (index + 1) * width] = bits
            yield np.packbits(lane_bits, axis=-1, bitorder="little").reshape(1, -1)
            beats = layout.row_scale_beats
            yield scale_beats[first * beats : (first + step) * beats]

    def _lane_beats(self, raw: _Bytes) -> _Bytes:
        """Cut each lane's bytes (..., lanes, bytes) into beats of ``width`` bits a lane."""
        lane_size = self.layout.width // 8
        cut = raw.reshape(-1, self.layout.lanes, raw.shape[-1] // lane_size, lane_size)
        return cut.swapaxes(1, 2).reshape(-1, self.layout.beat_width // 8)

    # -- spans ---------------------------------------------------------------------------------

    def _span_tiles(self, ends: npt.NDArray[np.int64]) -> int:
        """Choose how many tiles go by before lanes with fewer words are filled up.

        A lane may be two tiles ahead of another one in its stream, but not in its work: it waits,
        and as soon as its ``ahead`` words are there, everybody does. So what the others still need
        must come before: the most tiles are taken for which it does, wherever spans begin.

        Parameters
        ----------
        ends : int array, shape (lanes, tiles)
            Words of each lane up to the end of each tile, without any filling up.
        """
        tiles = ends.shape[1]
        words = np.diff(ends, axis=1, prepend=0)
        for count in range(tiles, 1, -1):
            padding = -tiles % count
            exists = np.arange(tiles + padding).reshape(-1, count) < tiles
            padded = np.pad(words, ((0, 0), (0, padding)))
            spans = padded.reshape(len(ends), -1, count).cumsum(axis=2)
            needed, reached = spans.max(axis=0), spans.min(axis=0)
            enough = needed[:, :-2] <= reached[:, 1:-1] + self.layout.ahead
            if (enough | ~exists[:, 2:]).all():
                return count
        return 1

    def _spans(
        self, words: list[_Bytes], ends: npt.NDArray[np.int64]
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Cut the lanes' words at the ends of spans, fill them up with zeros and join them."""
        starts = np.concatenate([np.zeros_like(ends[:, :1]), ends[:, :-1]], axis=1)
        for first, end in zip(starts.T, ends.T, strict=True):
            shape = ((end - first).max(), self.layout.lanes, self.layout.width // 8)
            span = np.zeros(shape, dtype=np.uint8)
            for lane, (start, stop) in enumerate(zip(first, end, strict=True)):
                span[: stop - start, lane] = words[lane][start:stop]
            yield span.reshape(len(span), -1)

    def _frames(self, index: int, span: _Bytes) -> Iterator[_Bytes]:
        """Put a header before a span, and a checksum after every frame of it."""
        header = SPAN_HEADER.pack(magic=SPAN_MAGIC, index=index, beats=len(span))
        before = self._words(header, SPAN_HEADER.width)
        for start in range(0, len(span), FRAME_BEATS):
            yield self._section(before, span[start : start + FRAME_BEATS])
            before = before[:0]

    # -- the lanes' own streams ------------------------------------------------------------------

    def _lane_words(self) -> tuple[list[_Bytes], npt.NDArray[np.int64]]:
        """Words of every lane, and how many there are up to the end of each tile (lanes, tiles)."""
        layout = self.layout
        batch_beats = layout.batch_shape[0]
        code_widths = np.array([item.code_width for item in layout.members])[self.formats]
        code_words = code_widths * self.lengths[self.segment]
        batch_words = self.order.batches_before * batch_beats

        records = np.arange(len(self.segment))
        tile = self.starts[self.segment] // layout.tile_slices
        last_records = np.append(np.flatnonzero(np.diff(tile)), records[-1])
        ends = (code_words + batch_words).cumsum(axis=1)[:, last_records]
        zeros = self._records(self._dealt(self._pad_rows(self.matrix.zeros[:, self.groups])))
        scales = self._records(self._dealt(self._pad_rows(self.matrix.scales[:, self.groups])))
        words = []
        for lane, batches in enumerate(
            header_batches(layout, self.formats, self.order, scales, zeros)
        ):
            order = np.concatenate([
                np.repeat(records * 2, batch_words[lane]),
                np.repeat(records * 2 + 1, code_words[lane]),
            ])
            stream = np.concatenate([batches, self._code_words(lane, code_widths[lane])])
            words.append(stream[np.argsort(order, kind="stable")])
        return words, ends

    def _stream_codes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Codes of some rows, as the stream numbers them, (rows, columns)."""
        matrix = self.matrix
        codes = matrix.codes[rows]
        numbers = [
            np.array(self.layout.stream_codes(item), dtype=np.uint8) for item in matrix.members
        ]
        if all((own == np.arange(len(own))).all() for own in numbers):
            return codes
        table = np.zeros((len(numbers), max(map(len, numbers))), dtype=np.uint8)
        for index, own in enumerate(numbers):
            table[index, : len(own)] = own
        ids = np.repeat(matrix.format_ids[rows], matrix.group_size, axis=1)
        return table[ids[:, : matrix.columns], codes]

    def _code_words(self, lane: int, code_widths: npt.NDArray[np.int64]) -> _Bytes:
        """Codes of one lane: record by record, slice by slice, bit by bit, ``width`` weights."""
        layout = self.layout
        rows = np.arange(self.blocks) * layout.lanes + self.places[:, lane]
        codes = np.zeros((self.blocks, self.slices * layout.width), dtype=np.uint8)
        real = rows < self.matrix.rows
        codes[real, : self.matrix.columns] = self._stream_codes(rows[real])
        bits = (
            codes.reshape(self.blocks, self.slices, 1, -1)
            >> np.arange(layout.max_code_width)[:, None]
            & 1
        )
        words = np.packbits(bits, axis=-1, bitorder="little")
        # Every slice of every record, in order.
        lengths = self.lengths[self.segment]
        record = np.repeat(np.arange(len(lengths)), lengths)
        first = np.cumsum(lengths) - lengths
        slices = self.starts[self.segment][record] + np.arange(len(record)) - first[record]
        used = np.arange(layout.max_code_width) < code_widths[record][:, None]
        return words[self.block[record], slices][used]
