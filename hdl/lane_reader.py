"""One lane's own stream: header batches and codes in, whole slices out."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from .header_reader import HeaderReader, header_layout, read_header
from .parameters import EngineParameters
from .sequencer import slice_layout
from .word_queue import WordQueue, queue_depth

__all__ = ["LaneReader", "program_layout"]


def program_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what all lanes must know of a layer: last numbers, counted from 0."""
    layout = parameters.layout
    return data.StructLayout({
        "row_bank": 1,
        "block": parameters.row_address_width - 1,
        "tile": range(layout.max_tiles),
        "segment_slice": range(layout.tile_slices),  # of a full segment
        "tile_slice": range(layout.tile_slices),  # of the last tile
        "span_tile": range(layout.max_tiles),  # of a full span
    })


class LaneReader(wiring.Component):
    """Reads the words of one lane, as ``docs/weight-stream.md`` has them, at its own pace.

    Words wait in a queue of ``ahead`` or more, from which one is taken a cycle as long as slices
    are taken as fast as they complete; some complete slices wait, so that header batches cost no
    step. Only a record of a single word takes two cycles, where there are several formats, or three
    if ``ahead`` is 2. What comes after the last record of a span is padding.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    word : :py:`In(width)`
        The lane's bits of a beat.
    ends_span : :py:`In(1)`
        It is the last of a span.
    push : :py:`In(1)`
        Take it; only where ``room`` was set in the cycle before.
    room : :py:`Out(1)`
        Whether a word can be taken in this cycle and another one in the next.
    start : :py:`In(1)`
        A layer's words begin.
    program : :py:`In(program_layout(parameters))`
        Shape of the layer; steady from ``start`` on.
    filled : :py:`In(2)`
        Bit ``b``: bank ``b`` of the activations holds a tile.
    release : :py:`In(2)`
        Bit ``b``: it will hold another one when ``filled`` is set the next time.
    slice : :py:`Out(slice_layout(parameters))`
        The slice that has waited longest.
    slice_valid, slice_ready
        Its handshake.
    codes : :py:`Out(data.ArrayLayout(width, max_code_width))`
        Codes of the slice taken last.
    header : :py:`Out(header_layout(layout))`
        Its record's.
    unknown : :py:`Out(1)`
        The record at hand names no format, or the one scale that has no negative.
    taking : :py:`Out(1)`
        A word is taken out of the queue.
    done : :py:`Out(1)`
        No record is left.
    cut_short : :py:`Out(1)`
        A span has ended before its last record.
    """

    word: Signal
    ends_span: Signal
    push: Signal
    room: Signal
    start: Signal
    program: data.View
    filled: Signal
    release: Signal
    slice: data.View
    slice_valid: Signal
    slice_ready: Signal
    codes: data.View
    header: data.View
    unknown: Signal
    taking: Signal
    done: Signal
    cut_short: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        super().__init__({
            "word": In(layout.width),
            "ends_span": In(1),
            "push": In(1),
            "room": Out(1),
            "start": In(1),
            "program": In(program_layout(parameters)),
            "filled": In(2),
            "release": In(2),
            "slice": Out(slice_layout(parameters)),
            "slice_valid": Out(1),
            "slice_ready": In(1),
            "codes": Out(data.ArrayLayout(layout.width, layout.max_code_width)),
            "header": Out(header_layout(layout)),
            "unknown": Out(1),
            "taking": Out(1),
            "done": Out(1),
            "cut_short": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.parameters.layout
        depth = queue_depth(layout.ahead)
        m.submodules.words = words = WordQueue(width=layout.width + 1, depth=depth)
        word, ends_span = words.r_data[:-1], words.r_data[-1]
        self._declare()

        m.d.comb += [
            words.w_data.eq(Cat(self.word, self.ends_span)),
            words.w_en.eq(self.push),
            self.room.eq(words.w_rdy),
            words.r_en.eq(self._take),
            self.taking.eq(self._take),
            self.cut_short.eq(self._take & ends_span & ~self._may_end),
        ]
        # Steps may go on in a bank whose slices are all collected: it is not ready once more.
        m.d.sync += self._collected.eq((self._collected & ~self.release) | self._tile_collected)
        # No other lane or layer makes a tile unready, so that this may be known a cycle late.
        ready = self.filled & ~self._collected
        m.d.sync += self._tile_ready.eq(
            ready.bit_select(self._bank ^ self._tile_collected.any(), 1)
        )
        m.submodules.headers = headers = self._headers
        m.d.comb += [
            headers.begin.eq(self.done),
            headers.word.eq(word),
            headers.take.eq(self._take & self._is_batch),
            headers.load.eq(self._load),
            self.unknown.eq(headers.refused & self._reading),
        ]
        self._keep_codes(m, word)
        layer_read, program = Signal(), self.program
        with m.FSM():
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.d.sync += layer_read.eq(0)
                with m.If(self.start):
                    m.d.sync += [
                        self._blocks_left.eq(program.block),
                        self._last_block.eq(program.block == 0),
                        self._tiles_left.eq(program.tile),
                        self._last_tile.eq(program.tile == 0),
                        self._next_tile_last.eq(program.tile == 1),
                        self._span_tiles_left.eq(program.span_tile),
                        self._last_of_span.eq((program.tile == 0) | (program.span_tile == 0)),
                        self._first_tile.eq(1),
                        self._tile_last.eq(self._last_slice(program.tile == 0)),
                    ]
                    self._count_slice(m, self._last_slice(program.tile == 0), program.segment_slice)
                    m.next = "FIRST_BATCH"
            with m.State("FIRST_BATCH"):
                m.d.comb += [self._take.eq(words.r_rdy), self._is_batch.eq(1)]
                with m.If(headers.batch_ends):
                    m.next = "FIRST_HEADER"
            with m.State("FIRST_HEADER"):
                with m.If(headers.settled):
                    m.d.comb += self._load.eq(1)
                    m.d.sync += self._bits_left.eq(headers.upcoming_last_bit)
                    m.next = "CODES"
            with m.State("CODES"):
                ends_layer = self._read_codes(m, words.r_rdy)
                m.d.sync += layer_read.eq(ends_layer)
                with m.If(self._may_end & ~ends_span):
                    m.next = "PADDING"
                with m.Elif(ends_layer):
                    m.next = "DONE"
            with m.State("PADDING"):
                m.d.comb += [self._take.eq(words.r_rdy), self._may_end.eq(1)]
                with m.If(self._take & ends_span):
                    m.next = "CODES"
                    with m.If(layer_read):
                        m.next = "DONE"

        return m

    def _declare(self) -> None:
        """Name the registers and wires that several parts share."""
        layout = self.parameters.layout
        self._headers = HeaderReader(parameters=self.parameters)
        self._take = Signal()
        self._may_end = Signal()  # the span's last record is complete
        self._is_batch = Signal()  # the word at hand belongs to a header batch
        self._load = Signal()  # take up a header
        self._bit = Signal(layout.max_code_width, init=1)  # of codes, at hand; one-hot
        self._bits_left = Signal(range(layout.max_code_width))  # after the word at hand
        self._reading = Signal()  # the header is that of a record at hand
        self._code_taken = Signal()
        self._completes = Signal()
        self._slice_room = Signal(init=1)
        self._bank = Signal()  # of the tile at hand
        self._tile_ready = Signal()
        self._collected = Signal(2)  # banks whose slices have all been collected
        self._tile_collected = Signal(2)  # ... just now
        # Counted down, so that whether one is the last is seen without a comparison.
        self._blocks_left = Signal.like(self.program.block)  # of the tile, after the one at hand
        self._tiles_left = Signal.like(self.program.tile)  # of the layer
        self._span_tiles_left = Signal.like(self.program.span_tile)  # of the span
        self._last_block = Signal()  # none is left of each
        self._last_tile = Signal()
        self._next_tile_last = Signal()  # the tile behind the one at hand is the layer's last
        self._last_of_span = Signal()
        self._first_tile = Signal()
        self._slices_left = Signal.like(self.program.tile_slice)  # of the row in this tile
        self._segment_left = Signal.like(self.program.tile_slice)  # ... if there are as many
        self._ends_row = Signal()  # none is left of each
        self._ends_record = Signal()
        self._last_record = Signal()  # the record at hand is its row's last in this tile
        self._first = Signal(init=1)  # the slice at hand is its record's first
        self._first_record = Signal(init=1)  # the record at hand is its row's first in this tile
        self._tile_last = Signal.like(self.program.tile_slice)  # number of its last slice
        self._described = Signal(slice_layout(self.parameters))  # the slice that completes

    def _last_slice(self, last_tile: Value) -> Value:
        """Return the number of a tile's last slice."""
        return Mux(last_tile, self.program.tile_slice, self.parameters.layout.tile_slices - 1)

    def _count_slice(self, m: Module, slices_left: Value, segment_left: Value) -> None:
        """Go on to a slice behind which so many are left of its row and of a full segment."""
        m.d.sync += [
            self._slices_left.eq(slices_left),
            self._segment_left.eq(segment_left),
            self._ends_row.eq(slices_left == 0),
            self._ends_record.eq((slices_left == 0) | (segment_left == 0)),
            self._last_record.eq(slices_left <= segment_left),
        ]

    # -- codes -------------------------------------------------------------------------------------

    def _keep_codes(self, m: Module, word: Value) -> None:
        """Keep code bits until a slice is complete, let it wait, and hand it on."""
        layout = self.parameters.layout
        complete = Signal(
            data.StructLayout({
                "codes": self.codes.shape(),
                "header": layout.header_width,
                "slice": self.slice.shape(),
            })
        )
        waiting, taken = Signal.like(complete), Signal()
        m.submodules.slices = slices = fifo.SyncFIFO(
            width=len(Value.cast(complete)), depth=self.parameters.slices_ahead
        )
        widths = {item.code_width for item in layout.members}
        for bit in range(layout.max_code_width):
            kept = Signal(layout.width, name=f"code_{bit}", reset_less=True)
            now = self._bit[bit]
            # Kept anew until it is taken: so all these registers wait for one bit alone.
            with m.If(now):
                m.d.sync += kept.eq(word)
            # The last bits of a slice are those at hand; a choice only where widths differ.
            if bit + 1 == layout.max_code_width:
                m.d.comb += complete.codes[bit].eq(word)
            elif bit + 1 in widths:
                m.d.comb += complete.codes[bit].eq(Mux(now, word, kept))
            else:
                m.d.comb += complete.codes[bit].eq(kept)
        m.d.comb += [
            complete.header.eq(self._headers.raw),
            complete.slice.eq(self._described),
            slices.w_data.eq(complete),
            slices.w_en.eq(self._completes),
            taken.eq(self.slice_valid & self.slice_ready),
            slices.r_en.eq(taken),
            waiting.eq(slices.r_data),
            self.slice.eq(waiting.slice),
        ]
        # Both flags from registers, as those of `WordQueue`.
        level = slices.level  # type: ignore[attr-defined]
        with m.If(self._completes & ~taken):
            m.d.sync += self._slice_room.eq(level != self.parameters.slices_ahead - 1)
            m.d.sync += self.slice_valid.eq(1)
        with m.If(taken & ~self._completes):
            m.d.sync += self._slice_room.eq(1)
            m.d.sync += self.slice_valid.eq(level != 1)
        header = Signal(layout.header_width, reset_less=True)
        with m.If(taken):
            m.d.sync += self.codes.eq(waiting.codes)
            m.d.sync += header.eq(waiting.header)
        m.d.comb += self.header.eq(read_header(m, layout, header))

    def _read_codes(self, m: Module, available: Value) -> Value:
        """Take code words, with a header batch in between where one is due.

        Returns
        -------
        Value
            Whether the layer's last record is complete.
        """
        program, headers = self.program, self._headers
        block, tile_slice = Signal.like(program.block), Signal.like(program.tile_slice)
        bank, tile_last = self._bank, self._tile_last
        last_block, last_tile = self._last_block, self._last_tile
        ends_record, ends_row, ends_tile, ends_layer = Signal(), Signal(), Signal(), Signal()
        may_complete = Signal()
        m.d.comb += [
            ends_row.eq(self._ends_row),
            ends_record.eq(self._ends_record),
            ends_tile.eq(ends_row & last_block),
            ends_layer.eq(ends_tile & last_tile),
        ]
        # The batch of the next record's header comes before the codes of this one.
        batch_due, last_word = Signal(), Signal()
        m.d.comb += [
            batch_due.eq(headers.batch_wanted & ~(last_tile & last_block & self._last_record)),
            last_word.eq((self._bits_left == 0) & ~batch_due),
            self._reading.eq(1),
            self._is_batch.eq(batch_due),
            may_complete.eq(self._tile_ready & self._slice_room & (headers.settled | ~ends_record)),
            self._completes.eq(available & last_word & may_complete),
            self._take.eq(available & (may_complete | ~last_word)),
            self._may_end.eq(self._completes & ends_tile & self._last_of_span),
            self._code_taken.eq(self._take & ~batch_due),
            self._described.slice.eq(Cat(tile_slice[: len(self._described.slice) - 1], bank)),
            self._described.row.eq(Cat(block, program.row_bank)),
            self._described.first.eq(self._first),
            self._described.last.eq(ends_record),
            self._described.clear.eq(self._first_tile & self._first_record),
            self._described.tile_end.eq(ends_tile),
            self._described.last_step.eq(headers.last_step),
        ]
        with m.If(self._code_taken):
            m.d.sync += [self._bit.eq(self._bit << 1), self._bits_left.eq(self._bits_left - 1)]
        with m.If(self._completes):
            m.d.sync += [
                self._bit.eq(1),
                self._bits_left.eq(Mux(ends_record, headers.upcoming_last_bit, headers.last_bit)),
                tile_slice.eq(Mux(ends_row, 0, tile_slice + 1)),
                self._first.eq(ends_record),
                self._first_record.eq(ends_row | (self._first_record & ~ends_record)),
            ]
            self._count_slice(
                m,
                Mux(ends_row, tile_last, self._slices_left - 1),
                Mux(ends_record, program.segment_slice, self._segment_left - 1),
            )
            with m.If(ends_record):
                m.d.comb += self._load.eq(1)
            with m.If(ends_row):
                m.d.sync += [
                    block.eq(Mux(last_block, 0, block + 1)),
                    self._blocks_left.eq(Mux(last_block, program.block, self._blocks_left - 1)),
                    last_block.eq(Mux(last_block, program.block == 0, self._blocks_left == 1)),
                ]
            with m.If(ends_tile):
                last_of_span, span_tiles_left = self._last_of_span, self._span_tiles_left
                is_last = self._next_tile_last
                next_last = self._last_slice(is_last)
                m.d.sync += [
                    self._tiles_left.eq(self._tiles_left - 1),
                    last_tile.eq(is_last),
                    self._next_tile_last.eq(self._tiles_left == 2),
                    self._first_tile.eq(0),
                    self._tile_last.eq(next_last),
                    span_tiles_left.eq(Mux(last_of_span, program.span_tile, span_tiles_left - 1)),
                    last_of_span.eq(
                        is_last | Mux(last_of_span, program.span_tile == 0, span_tiles_left == 1)
                    ),
                    bank.eq(~bank),
                ]
                self._count_slice(m, next_last, program.segment_slice)
                m.d.comb += self._tile_collected.eq(1 << bank)
        return self._completes & ends_layer
