"""The weight stream's reader: headers, checksums, and what every beat is."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..formats.layout import LAYER_HEADER, LAYER_MAGIC, STREAM_VERSION, TILE_HEADER, TILE_MAGIC
from .accumulator import row_address_width
from .activation_store import token_layout
from .crc32 import Crc32
from .lane import fill_layout, shape_layout
from .lookup import slice_address_width
from .parameters import LutParameters
from .status import Error

__all__ = ["Unpack", "slice_layout", "weight_layout"]


def weight_layout(parameters: LutParameters) -> data.StructLayout:
    """Return one beat of the weight stream; ``last`` marks the end of a layer."""
    return data.StructLayout({"data": parameters.layout.beat_width, "last": 1})


def slice_layout(parameters: LutParameters) -> data.StructLayout:
    """Return what is known of a slice that goes to the lanes."""
    return data.StructLayout({
        "slice": slice_address_width(parameters),
        "row": row_address_width(parameters),
        "first": 1,  # of its record
        "last": 1,  # of its record
        "clear": 1,  # the record is the first of its rows
        "tile_end": 1,  # the tile's tables are done with after this
    })


class Unpack(wiring.Component):
    """Reads the weight stream of ``docs/weight-stream.md`` and tells the lanes what to do with it.

    One beat a cycle as long as slices are taken as fast as they complete. Every header is checked
    when it is complete and every checksum before anything that depends on it goes out; on an error
    the code sticks and all further beats are discarded.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    i : :py:`In(stream.Signature(weight_layout(parameters)))`
        The stream.
    fill : :py:`Out(fill_layout(parameters))`
        For all lanes: what the beat at hand is.
    shape : :py:`In(shape_layout(layout))`
        From the lanes, combined: code width and planes of the record.
    rows_free : :py:`In(2)`
        Bit ``b``: bank ``b`` of the row sums may be written.
    filled, token, table_bank, taken
        The table builder's.
    slice : :py:`Out(slice_layout(parameters))`
        Description of the slice that completes.
    slice_valid, slice_ready
        Handshake of the slice.
    drained : :py:`In(1)`
        No slice is under way any more.
    done : :py:`Out(1)`
        A layer is complete and right: its row sums are final.
    rows : :py:`Out(range(max_rows + 1))`
        Rows of the layer at hand.
    row_bank : :py:`Out(1)`
        Bank of its row sums.
    layer_token : :py:`Out(token_layout(parameters))`
        Its token.
    stop : :py:`In(Error)`
        An error found elsewhere.
    error : :py:`Out(Error)`
        First error since reset.
    busy : :py:`Out(1)`
        Whether a layer has begun.
    """

    i: stream.Interface
    fill: data.View
    shape: data.View
    rows_free: Signal
    filled: Signal
    token: data.View
    table_bank: Signal
    taken: Signal
    slice: data.View
    slice_valid: Signal
    slice_ready: Signal
    drained: Signal
    done: Signal
    rows: Signal
    row_bank: Signal
    layer_token: data.View
    stop: Signal
    error: Signal
    busy: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "i": In(stream.Signature(weight_layout(parameters))),
            "fill": Out(fill_layout(parameters)),
            "shape": In(shape_layout(layout)),
            "rows_free": In(2),
            "filled": In(1),
            "token": In(token_layout(parameters)),
            "table_bank": Out(1),
            "taken": Out(1),
            "slice": Out(slice_layout(parameters)),
            "slice_valid": Out(1),
            "slice_ready": In(1),
            "drained": In(1),
            "done": Out(1),
            "rows": Out(range(layout.max_rows + 1)),
            "row_bank": Out(1),
            "layer_token": Out(token_layout(parameters)),
            "stop": In(Error),
            "error": Out(Error),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = self._crc = Crc32(width=self.parameters.layout.beat_width)
        self._declare()

        m.d.comb += [
            self._take.eq(self.i.valid & self.i.ready),
            self._crc.data.eq(self.i.payload.data),
            self._crc.enable.eq(self._take),
            self.rows.eq(self._layer.rows),
            self.fill.row.eq(Cat(self._block, self.row_bank)),
        ]
        with m.If(self.error == Error.NONE):
            m.d.comb += self.busy.eq(1)
            with m.FSM():
                self._layer_states(m)
                self._tile_states(m)
        with m.Else():
            m.d.comb += self.i.ready.eq(1)
        self._stop_on_error(m)

        return m

    def _declare(self) -> None:
        """Name the registers and wires that several states share."""
        parameters, layout = self.parameters, self.parameters.layout
        self._take = Signal()
        self._expect_last = Signal()
        self._found = Signal(Error)
        self._layer = Signal(data.StructLayout(LAYER_HEADER))
        self._tile = Signal(data.StructLayout(TILE_HEADER))
        parts = max(
            layout.layer_header_beats,
            layout.tile_header_beats,
            layout.row_scale_beats,
            layout.batch_shape[0],
        )
        self._part = Signal(range(parts))  # of a header, a batch or a row scale
        self._block = Signal(row_address_width(parameters) - 1)
        self._last_block = Signal()
        self._columns_left = Signal(LAYER_HEADER["columns"])
        self._tile_index = Signal(LAYER_HEADER["tiles"])
        self._last_tile = Signal()
        self._beats = Signal(TILE_HEADER["beats"])
        self._tile_slice = Signal(range(layout.tile_slices))
        self._segment_slice = Signal(range(layout.tile_slices))
        self._bit = Signal(range(layout.max_code_width))
        self._record = Signal(range(layout.batch_shape[1]))  # of its header batch
        self._batch_done = Signal()

    # -- layer: header, row scales ---------------------------------------------------------------

    def _layer_states(self, m: Module) -> None:
        layout = self.parameters.layout
        with m.State("LAYER"):
            m.d.comb += self.i.ready.eq(1)
            m.d.comb += self.busy.eq(self._part != 0)
            with m.If(self._collect(m, self._layer)):
                m.next = "LAYER_CHECK"
        with m.State("LAYER_CHECK"):
            header = self._layer
            spare_rows = header.blocks * layout.lanes - header.rows
            spare_columns = header.tiles * layout.tile_columns - header.columns
            with m.If(
                (header.magic != LAYER_MAGIC)
                | (header.version != STREAM_VERSION)
                | (header.flags != 0)
            ):
                m.d.comb += self._found.eq(Error.VERSION)
            with m.Elif(header.layout != layout.fingerprint):
                m.d.comb += self._found.eq(Error.FORMAT)
            with m.Elif(
                (header.rows == 0)
                | (header.rows > layout.max_rows)
                | (header.columns == 0)
                | (header.columns > layout.max_columns)
                | ~_within(spare_rows, layout.lanes)
                | ~_within(spare_columns, layout.tile_columns)
                | ~Cat(header.segment_slices == count for count in layout.segment_choices).any()
            ):
                m.d.comb += self._found.eq(Error.SIZE)
            m.d.sync += self._columns_left.eq(header.columns)
            m.d.sync += self._tile_index.eq(0)
            with m.If(self.rows_free.bit_select(self.row_bank, 1)):
                m.next = "ROW_SCALES"
        with m.State("ROW_SCALES"):
            m.d.comb += self.i.ready.eq(1)
            m.d.comb += self._last_block.eq(self._block == self._layer.blocks - 1)
            m.d.comb += self.fill.row_scale.eq(Mux(self._take, 1 << self._part, 0))
            with m.If(self._part_ends(m, layout.row_scale_beats)):
                m.d.sync += self._block.eq(Mux(self._last_block, 0, self._block + 1))
                with m.If(self._last_block):
                    m.next = "LAYER_CRC"
        with m.State("LAYER_CRC"):
            with m.If(self._checksum(m)):
                m.next = "TILE"

    # -- tile: header, first headers, codes ------------------------------------------------------

    def _tile_states(self, m: Module) -> None:
        layout = self.parameters.layout
        with m.State("TILE"):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += self._beats.eq(0)
            with m.If(self._collect(m, self._tile)):
                m.next = "TILE_CHECK"
        with m.State("TILE_CHECK"):
            header, last = self._tile, self._columns_left <= layout.tile_columns
            spare = header.slices * layout.width - self._columns_left
            with m.If((header.magic != TILE_MAGIC) | (header.flags != 0)):
                m.d.comb += self._found.eq(Error.VERSION)
            with m.Elif(
                (header.index != self._tile_index)
                | Mux(last, ~_within(spare, layout.width), header.slices != layout.tile_slices)
            ):
                m.d.comb += self._found.eq(Error.SIZE)
            m.d.sync += self._last_tile.eq(last)
            m.next = "FIRST_BATCH"
        with m.State("FIRST_BATCH"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self._take_batch(m)):
                m.next = "FIRST_HEADER"
        with m.State("FIRST_HEADER"):
            m.d.comb += self.fill.header.eq(1)
            m.d.sync += self._record.eq(0)
            m.next = "CODES"
        with m.State("CODES"):
            self._codes(m)
        with m.State("TILE_CRC"):
            m.d.comb += self._expect_last.eq(self._last_tile)
            with m.If(self._take & (self._beats != self._tile.beats)):
                m.d.comb += self._found.eq(Error.LENGTH)
            with m.If(self._checksum(m)):
                m.d.sync += self._tile_index.eq(self._tile_index + 1)
                m.d.sync += self._columns_left.eq(self._columns_left - layout.tile_columns)
                m.next = "TILE"
                with m.If(self._last_tile):
                    m.next = "DRAIN"
        with m.State("DRAIN"):
            with m.If(self.drained):
                m.d.comb += self.done.eq(1)
                m.d.sync += self.row_bank.eq(~self.row_bank)
                m.next = "LAYER"

    def _codes(self, m: Module) -> None:
        """Take code beats, with a header batch in between where one is due."""
        layout = self.parameters.layout
        batch_records = layout.batch_shape[1]
        tile_slice, segment_slice, bit = self._tile_slice, self._segment_slice, self._bit

        last_block = Signal()
        record_reaches_end, slice_ends_record, slice_ends_block = Signal(), Signal(), Signal()
        m.d.comb += [
            last_block.eq(self._block == self._layer.blocks - 1),
            record_reaches_end.eq(tile_slice + self._layer.segment_slices >= self._tile.slices),
            slice_ends_block.eq(tile_slice == self._tile.slices - 1),
            slice_ends_record.eq(
                slice_ends_block | (segment_slice == self._layer.segment_slices - 1)
            ),
        ]
        batch_due, last_of_batch = Signal(), self._record == batch_records - 1
        m.d.comb += batch_due.eq(
            (bit == 0)
            & (segment_slice == 0)
            & last_of_batch
            & ~self._batch_done
            & ~(last_block & record_reaches_end)
        )
        completes = Signal()
        m.d.comb += completes.eq(~Cat(self.shape.code_bits, 0).bit_select(bit, 1) & ~batch_due)

        self._describe_slice(m, slice_ends_record, slice_ends_block & last_block)
        m.d.comb += self.slice_valid.eq(completes & self.i.valid & self.filled)
        m.d.comb += self.i.ready.eq(~completes | (self.slice_ready & self.filled))
        self._check_token(m)
        with m.If(self.shape.unknown):
            m.d.comb += self._found.eq(Error.FORMAT)

        with m.If(batch_due):
            with m.If(self._take_batch(m)):
                m.d.sync += self._batch_done.eq(1)
        with m.Elif(self._take):
            m.d.comb += self.fill.code.eq(1 << bit)
            m.d.sync += self._beats.eq(self._beats + 1)
            m.d.sync += bit.eq(bit + 1)
            with m.If(completes):
                m.d.comb += self.fill.slice.eq(1)
                m.d.sync += bit.eq(0)
                m.d.sync += segment_slice.eq(Mux(slice_ends_record, 0, segment_slice + 1))
                m.d.sync += tile_slice.eq(Mux(slice_ends_block, 0, tile_slice + 1))
            with m.If(completes & slice_ends_record):
                following = Mux(last_of_batch, 0, self._record + 1)
                m.d.comb += [self.fill.header.eq(1), self.fill.record.eq(following)]
                m.d.sync += self._record.eq(following)
                m.d.sync += self._batch_done.eq(0)
            with m.If(completes & slice_ends_block):
                m.d.sync += self._block.eq(Mux(last_block, 0, self._block + 1))
                with m.If(last_block):
                    m.d.comb += self.taken.eq(1)
                    m.d.sync += self.table_bank.eq(~self.table_bank)
                    m.next = "TILE_CRC"

    def _describe_slice(self, m: Module, ends_record: Value, ends_tile: Value) -> None:
        slice_bits = slice_address_width(self.parameters) - 1
        first_of_row = (self._tile_index == 0) & (self._tile_slice == self._segment_slice)
        m.d.comb += [
            self.slice.slice.eq(Cat(self._tile_slice[:slice_bits], self.table_bank)),
            self.slice.row.eq(Cat(self._block, self.row_bank)),
            self.slice.first.eq(self._segment_slice == 0),
            self.slice.last.eq(ends_record),
            self.slice.clear.eq(first_of_row),
            self.slice.tile_end.eq(ends_tile),
        ]

    def _check_token(self, m: Module) -> None:
        """Hold the layer against its activations as soon as both are known."""
        spare = self.token.beats * self.parameters.act_lanes - self._layer.columns
        with m.If(self.filled & (self._tile_index == 0)):
            m.d.sync += self.layer_token.eq(self.token)
            excess = self.token.used + spare > self.parameters.act_lanes
            with m.If(~_within(spare, self.parameters.act_lanes) | excess):
                m.d.comb += self._found.eq(Error.LENGTH)
            if self.parameters.numerics.output == "int":
                with m.Elif(self.token.nonfinite):
                    m.d.comb += self._found.eq(Error.NONFINITE)

    # -- pieces ----------------------------------------------------------------------------------

    def _collect(self, m: Module, header: data.View) -> Value:
        """Gather a header from its beats; true in the cycle of its last."""
        bits = Value.cast(header)
        width = self.parameters.layout.beat_width
        beats = self.parameters.layout.beats_for(len(bits))
        for part in range(beats):
            with m.If(self._take & (self._part == part)):
                m.d.sync += bits[part * width : (part + 1) * width].eq(self.i.payload.data)
        return self._part_ends(m, beats)

    def _take_batch(self, m: Module) -> Value:
        """Keep a header batch; true in the cycle of its last beat."""
        m.d.comb += self.fill.batch.eq(Mux(self._take, 1 << self._part, 0))
        with m.If(self._take):
            m.d.sync += self._beats.eq(self._beats + 1)
        return self._part_ends(m, self.parameters.layout.batch_shape[0])

    def _part_ends(self, m: Module, parts: int) -> Value:
        """Count the beats of something that has ``parts``; true in the cycle of its last."""
        ends = self._take & (self._part == parts - 1)
        with m.If(self._take):
            m.d.sync += self._part.eq(Mux(ends, 0, self._part + 1))
        return ends

    def _checksum(self, m: Module) -> Value:
        """Compare a section's checksum; true in the cycle of its beat."""
        m.d.comb += self.i.ready.eq(1)
        m.d.comb += self._crc.clear.eq(self._take)
        with m.If(self._take & (self.i.payload.data[:32] != self._crc.crc)):
            m.d.comb += self._found.eq(Error.CRC)
        return self._take

    def _stop_on_error(self, m: Module) -> None:
        found = Signal(Error)
        m.d.comb += found.eq(self._found)
        with m.If(self.stop != Error.NONE):
            m.d.comb += found.eq(self.stop)
        with m.Elif((self._found == Error.NONE) & self._take):
            with m.If(self.i.payload.last != self._expect_last):
                m.d.comb += found.eq(Error.LENGTH)
        with m.If((found != Error.NONE) & (self.error == Error.NONE)):
            m.d.sync += self.error.eq(found)


def _within(difference: Value, limit: int) -> Value:
    """Whether a signed difference is in 0..limit - 1."""
    return (difference >= 0) & (difference < limit)
