"""The weight stream's reader: headers, checksums, and what every beat is."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..formats.layout import (
    FRAME_BEATS,
    LAYER_HEADER,
    LAYER_MAGIC,
    SPAN_HEADER,
    SPAN_MAGIC,
    STREAM_VERSION,
)
from .activation_store import token_layout
from .checksum import Checksum
from .codebooks import Codebooks, codebooks_member
from .lane import row_fill_layout
from .lane_reader import program_layout
from .parameters import EngineParameters
from .pipeline import delay
from .status import Error

__all__ = ["WAITING_CYCLES", "Unpack", "weight_layout"]

WAITING_CYCLES = 16
"""Cycles in which nothing moves, after which nothing will: more than any hand-over takes."""


def weight_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return one beat of the weight stream; ``last`` marks the end of a layer."""
    return data.StructLayout({"data": parameters.layout.beat_width, "last": 1})


class Unpack(wiring.Component):
    """Reads the weight stream of ``docs/weight-stream.md`` and hands the lanes their words.

    One beat a cycle as long as every lane has room. Every header is checked when it is complete,
    and all checksums before a layer counts as done; on an error the code sticks and all further
    beats are discarded.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.

    Members
    -------
    i : :py:`In(stream.Signature(weight_layout(parameters)))`
        The stream.
    row_fill : :py:`Out(row_fill_layout(parameters))`
        For all lanes: which part of the row scales the beat at hand is.
    push : :py:`Out(1)`
        For all lanes: the beat at hand is a word of theirs.
    ends_span : :py:`Out(1)`
        It is the last of a span.
    room : :py:`In(1)`
        All lanes can take one.
    start : :py:`Out(1)`
        For all lanes: a layer's words begin.
    program : :py:`Out(program_layout(parameters))`
        For all lanes: shape of the layer.
    codebooks : :py:`Out(codebooks_layout(parameters))`
        For all lanes: the layer's codebooks. There is none without such formats.
    idle : :py:`In(1)`
        Nothing is under way in any lane.
    working : :py:`In(1)`
        Something moves in a lane, or activations are being written for them.
    unknown : :py:`In(1)`
        Some lane found a format or scale that is none.
    cut_short : :py:`In(1)`
        Some lane wanted more words of a span.
    rows_free : :py:`In(2)`
        Bit ``b``: bank ``b`` of the row sums may be written.
    filled : :py:`In(2)`
        Bit ``b``: bank ``b`` of the activations holds a tile.
    kept_tokens : :py:`In(data.ArrayLayout(data.ArrayLayout(token_layout, tokens), 2))`
        Whose.
    done : :py:`Out(1)`
        A layer is complete and right: its row sums are final.
    rows : :py:`Out(range(max_rows + 1))`
        Rows of the layer at hand.
    row_bank : :py:`Out(1)`
        Bank of its row sums.
    layer_tokens : :py:`Out(data.ArrayLayout(token_layout(parameters), tokens))`
        Its tokens.
    stop : :py:`In(Error)`
        An error found elsewhere.
    error : :py:`Out(Error)`
        First error since reset.
    busy : :py:`Out(1)`
        Whether a layer has begun.
    """

    i: stream.Interface
    row_fill: data.View
    push: Signal
    ends_span: Signal
    room: Signal
    start: Signal
    program: data.View
    codebooks: data.View
    idle: Signal
    working: Signal
    unknown: Signal
    cut_short: Signal
    rows_free: Signal
    filled: Signal
    kept_tokens: data.View
    done: Signal
    rows: Signal
    row_bank: Signal
    layer_tokens: data.View
    stop: Signal
    error: Signal
    busy: Signal

    def __init__(self, *, parameters: EngineParameters) -> None:
        self.parameters = parameters
        layout = parameters.layout
        tokens = data.ArrayLayout(token_layout(parameters), parameters.tokens)
        super().__init__({
            "i": In(stream.Signature(weight_layout(parameters))),
            "row_fill": Out(row_fill_layout(parameters)),
            "push": Out(1),
            "ends_span": Out(1),
            "room": In(1),
            "start": Out(1),
            "program": Out(program_layout(parameters)),
            **codebooks_member(parameters, Out),
            "idle": In(1),
            "working": In(1),
            "unknown": In(1),
            "cut_short": In(1),
            "rows_free": In(2),
            "filled": In(2),
            "kept_tokens": In(data.ArrayLayout(tokens, 2)),
            "done": Out(1),
            "rows": Out(range(layout.max_rows + 1)),
            "row_bank": Out(1),
            "layer_tokens": Out(tokens),
            "stop": In(Error),
            "error": Out(Error),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.parameters.layout.beat_width
        m.submodules.checksum = self._checksum = Checksum(width=width)
        self._declare()
        layer, layout = self._layer, self.parameters.layout
        m.d.sync += self._spare_rows.eq(layer.blocks * layout.lanes - layer.rows)
        m.d.sync += self._spare_columns.eq(layer.tiles * layout.tile_columns - layer.columns)

        m.d.comb += [
            self._take.eq(self.i.valid & self.i.ready),
            self._checksum.data.eq(self.i.payload.data),
            self._checksum.enable.eq(self._take),
            self.rows.eq(self._layer.rows),
            self.row_fill.row.eq(Cat(self._block, self.row_bank)),
            self.program.eq(self._program),
            self.program.row_bank.eq(self.row_bank),
        ]
        with m.If(~self._failed):
            m.d.comb += self.busy.eq(1)
            with m.FSM() as self._states:
                self._header_states(m)
                if self.parameters.layout.codebooks:
                    self._codebook_state(m)
                self._row_states(m)
                self._data_states(m)
            with m.If(self.unknown):
                m.d.comb += self._found.eq(Error.FORMAT)
            with m.Elif(self.cut_short):
                m.d.comb += self._found.eq(Error.LENGTH)
            with m.Elif(self._checksum.wrong):  # of beats before those at hand
                m.d.comb += self._found.eq(Error.CRC)
            with m.Elif(self._unfit != Error.NONE):
                m.d.comb += self._found.eq(self._unfit)
        with m.Else():
            m.d.comb += self.i.ready.eq(1)
        self._push_words(m)
        # Found some cycles later, so that a wrong checksum of the header comes first.
        self._check_tokens(m, delay(m, self.start, 3, name="started", control=True))
        self._stop_on_error(m)

        return m

    def _declare(self) -> None:
        """Name the registers and wires that several states share."""
        layout = self.parameters.layout
        self._take = Signal()
        self._expect_last = Signal()
        self._found = Signal(Error)
        self._noticed = Signal(Error)  # found in the cycle before
        self._misplaced = Signal()  # likewise: `last` where it should not be, or none
        self._right = Signal()  # nothing of that kind
        self._in_words = Signal()  # lanes' words come, and there is no error
        self._ends_frame = Signal()  # the word at hand is the last before a checksum
        self._failed = Signal()  # there is an error: one bit for all that stops
        self._unfit = Signal(Error)  # what is wrong with the vectors of the layer at hand
        self._layer = Signal(data.StructLayout(LAYER_HEADER))
        spare_rows = self._layer.blocks * layout.lanes - self._layer.rows
        self._spare_rows = Signal.like(spare_rows, reset_less=True)
        spare_columns = self._layer.tiles * layout.tile_columns - self._layer.columns
        self._spare_columns = Signal.like(spare_columns, reset_less=True)
        self._program = Signal(program_layout(self.parameters), reset_less=True)
        self._span = Signal(data.StructLayout(SPAN_HEADER))
        parts = max(
            layout.layer_header_beats,
            layout.span_header_beats,
            layout.codebook_beats,
            layout.row_scale_beats,
        )
        self._part = Signal(range(parts))  # of a header, the codebooks or a row scale
        self._row_section = "PLACES" if layout.places_of_beat else "ROW_SCALES"
        self._block = Signal(self.parameters.row_address_width - 1)
        self._blocks_left = Signal.like(self._block)  # after that
        self._last_block = Signal()  # there is none
        self._bank = Signal()  # of the layer's first tile
        self._index = Signal(SPAN_HEADER["index"])  # of the span
        self._tiles = Signal(LAYER_HEADER["tiles"])  # in this span and after it
        self._beats = Signal(SPAN_HEADER["beats"])  # of the span, after the one at hand
        self._span_ends = Signal()  # there is none
        self._span_ended = Signal()  # there was none after the one before
        self._last_span = Signal()
        self._frame = Signal(range(FRAME_BEATS))  # beats of the frame so far

    # -- header ------------------------------------------------------------------------------------

    def _header_states(self, m: Module) -> None:
        layout, header = self.parameters.layout, self._layer
        spare_rows, spare_columns = self._spare_rows, self._spare_columns
        with m.State("LAYER"):
            m.d.comb += self.i.ready.eq(1)
            m.d.comb += self.busy.eq(self._part != 0)
            with m.If(self._collect(m, header)):
                m.next = "LAYER_SPARE"
        wrong_version, wrong_layout, wrong_size = Signal(), Signal(), Signal()
        wrong_sizes = Signal(6)  # by themselves, and a cycle earlier than how they fit together
        segments = Cat(header.segment_slices == count for count in layout.segment_choices)
        m.d.sync += wrong_sizes.eq(
            Cat(
                header.rows == 0,
                header.rows > layout.max_rows,
                header.columns == 0,
                header.columns > layout.max_columns,
                header.span_tiles == 0,
                ~segments.any(),
            )
        )
        with m.State("LAYER_SPARE"):
            m.next = "LAYER_SIZE"
        with m.State("LAYER_SIZE"):
            m.d.sync += wrong_version.eq(
                (header.magic != LAYER_MAGIC)
                | (header.version != STREAM_VERSION)
                | (header.flags != 0)
            )
            m.d.sync += wrong_layout.eq(header.layout != layout.fingerprint)
            m.d.sync += wrong_size.eq(
                wrong_sizes.any()
                | ~_within(spare_rows, layout.lanes)
                | ~_within(spare_columns, layout.tile_columns)
            )
            m.next = "LAYER_CHECK"
        with m.State("LAYER_CHECK"):
            with m.If(wrong_version):
                m.d.comb += self._found.eq(Error.VERSION)
            with m.Elif(wrong_layout):
                m.d.comb += self._found.eq(Error.FORMAT)
            with m.Elif(wrong_size):
                m.d.comb += self._found.eq(Error.SIZE)
            one_span = header.span_tiles >= header.tiles
            unused = spare_columns[: (layout.tile_columns - 1).bit_length()] // layout.width
            m.d.sync += [
                self._program.block.eq(header.blocks - 1),
                self._blocks_left.eq(header.blocks - 1),
                self._last_block.eq(header.blocks == 1),
                self._program.tile.eq(header.tiles - 1),
                self._program.segment_slice.eq(header.segment_slices - 1),
                self._program.tile_slice.eq(layout.tile_slices - 1 - unused),
                self._program.span_tile.eq(Mux(one_span, header.tiles, header.span_tiles) - 1),
                self._tiles.eq(header.tiles),
            ]
            with m.If(self.rows_free.bit_select(self.row_bank, 1)):
                m.next = "CODEBOOKS" if layout.codebooks else self._row_section

    def _codebook_state(self, m: Module) -> None:
        """Keep the codebooks. No lane works: the layer before is complete, this one not begun."""
        m.submodules.codebooks = codebooks = Codebooks(parameters=self.parameters)
        m.d.comb += [
            codebooks.part.eq(self._part),
            codebooks.beat.eq(self.i.payload.data),
            self.codebooks.eq(codebooks.codebooks),
        ]
        with m.State("CODEBOOKS"):
            m.d.comb += [self.i.ready.eq(1), codebooks.enable.eq(self.i.valid)]
            with m.If(self._part_ends(m, self.parameters.layout.codebook_beats)):
                m.next = self._row_section

    # -- row scales --------------------------------------------------------------------------------

    def _row_states(self, m: Module) -> None:
        layout, fill = self.parameters.layout, self.row_fill
        place = Signal.like(fill.place)
        m.d.comb += fill.place.eq(place)
        if layout.places_of_beat:
            with m.State("PLACES"):
                m.d.comb += [self.i.ready.eq(1), fill.places.eq(self.i.valid)]
                with m.If(self.i.valid):
                    m.next = "ROW_SCALES"
        with m.State("ROW_SCALES"):
            last_place = place == layout.places_of_beat - 1
            m.d.comb += self.i.ready.eq(1)
            m.d.comb += fill.scale.eq(Mux(self.i.valid, 1 << self._part, 0))
            with m.If(self._part_ends(m, layout.row_scale_beats)):
                m.d.sync += [
                    self._block.eq(Mux(self._last_block, 0, self._block + 1)),
                    self._blocks_left.eq(self._blocks_left - 1),
                    self._last_block.eq(self._blocks_left == 1),
                ]
                if layout.places_of_beat:
                    m.d.sync += place.eq(Mux(last_place | self._last_block, 0, place + 1))
                    with m.If(last_place):
                        m.next = "PLACES"
                with m.If(self._last_block):
                    m.next = "LAYER_CRC"
        with m.State("LAYER_CRC"):
            with m.If(self._take_checksum(m)):
                m.next = "TOKENS"

    # -- the lanes' words --------------------------------------------------------------------------

    def _data_states(self, m: Module) -> None:
        span = self._span
        with m.State("TOKENS"):
            with m.If(self.filled.bit_select(self._bank, 1)):
                m.d.sync += self.layer_tokens.eq(self.kept_tokens[self._bank])
                m.d.comb += self.start.eq(1)
                m.d.sync += self._index.eq(0)
                m.next = "SPAN"
        with m.State("SPAN"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self._collect(m, span)):
                m.next = "SPAN_SIZE"
        wrong_magic, wrong_span = Signal(), Signal()
        with m.State("SPAN_SIZE"):
            m.d.sync += wrong_magic.eq(span.magic != SPAN_MAGIC)
            m.d.sync += wrong_span.eq((span.index != self._index) | (span.beats == 0))
            m.next = "SPAN_CHECK"
        with m.State("SPAN_CHECK"):
            with m.If(wrong_magic):
                m.d.comb += self._found.eq(Error.VERSION)
            with m.Elif(wrong_span):
                m.d.comb += self._found.eq(Error.SIZE)
            m.d.sync += [self._beats.eq(span.beats - 1), self._span_ends.eq(span.beats == 1)]
            m.d.sync += self._last_span.eq(self._tiles <= self._layer.span_tiles)
            m.d.sync += self._in_words.eq(1)
            m.next = "WORDS"
        with m.State("WORDS"):
            self._notice_waiting(m)
            m.d.comb += self.i.ready.eq(self.room)
            with m.If(self.push & self._ends_frame):
                m.next = "FRAME_CRC"
        with m.State("FRAME_CRC"):
            m.d.comb += self._expect_last.eq(self._span_ended & self._last_span)
            with m.If(self._take_checksum(m)):
                m.d.sync += self._in_words.eq(~self._span_ended)
                m.next = "WORDS"
                with m.If(self._span_ended):
                    m.d.sync += self._index.eq(self._index + 1)
                    m.d.sync += self._tiles.eq(self._tiles - self._layer.span_tiles)
                    m.next = "SPAN"
                with m.If(self._span_ended & self._last_span):
                    m.next = "DRAIN"
        with m.State("DRAIN"):
            with m.If(self.idle & ~self._checksum.pending & self._right):
                m.d.comb += self.done.eq(1)
                m.d.sync += self.row_bank.eq(~self.row_bank)
                m.d.sync += self._bank.eq(self._bank ^ self._layer.tiles[0])
                m.next = "LAYER"

    def _push_words(self, m: Module) -> None:
        """Give the lanes what comes in the state of words, which one bit tells of."""
        m.d.comb += [
            self.push.eq(self.i.valid & self.room & self._in_words),
            self.ends_span.eq(self._span_ends),
            self._ends_frame.eq(self._span_ends | (self._frame == FRAME_BEATS - 1)),
        ]
        with m.If(self.push):
            m.d.sync += [
                self._span_ended.eq(self._span_ends),
                self._frame.eq(Mux(self._ends_frame, 0, self._frame + 1)),
                self._in_words.eq(~self._ends_frame),
                self._beats.eq(self._beats - 1),
                self._span_ends.eq(self._beats == 1),
            ]

    def _notice_waiting(self, m: Module) -> None:
        """Notice lanes that wait for each other: one for words, one for that one's activations."""
        waits = Signal()
        cycles = Signal(range(WAITING_CYCLES))
        m.d.comb += waits.eq(~self.room & ~self.working)
        m.d.sync += cycles.eq(Mux(waits, cycles + 1, 0))
        with m.If(waits & (cycles == WAITING_CYCLES - 1)):
            m.d.comb += self._found.eq(Error.LENGTH)

    def _check_tokens(self, m: Module, now: Value) -> None:
        """Hold the layer, which was known two cycles ago, against its activations."""
        tokens = self.layer_tokens
        act_lanes = self.parameters.act_lanes
        wrong = []
        for index in range(self.parameters.tokens):
            spare = tokens[index].beats * act_lanes - self._layer.columns
            spare = delay(m, spare, 1, name=f"spare_activations_{index}").as_signed()
            excess = tokens[index].used + spare > act_lanes
            wrong.append(~_within(spare, act_lanes) | excess)
        with m.If(now & delay(m, Cat(wrong).any(), 1, name="misfit")):
            m.d.sync += self._unfit.eq(Error.LENGTH)
        if self.parameters.numerics.output == "int":
            nonfinite = [tokens[index].nonfinite for index in range(self.parameters.tokens)]
            with m.Elif(now & Cat(nonfinite).any()):
                m.d.sync += self._unfit.eq(Error.NONFINITE)

    # -- pieces ----------------------------------------------------------------------------------
    # For states that take every beat: what is offered is taken.

    def _collect(self, m: Module, header: data.View) -> Value:
        """Gather a header from its beats; true in the cycle of its last."""
        bits = Value.cast(header)
        width = self.parameters.layout.beat_width
        beats = self.parameters.layout.beats_for(len(bits))
        for part in range(beats):
            with m.If(self.i.valid & (self._part == part)):
                m.d.sync += bits[part * width : (part + 1) * width].eq(self.i.payload.data)
        return self._part_ends(m, beats)

    def _part_ends(self, m: Module, parts: int) -> Value:
        """Count the beats of something that has ``parts``; true in the cycle of its last."""
        ends = self.i.valid & (self._part == parts - 1)
        with m.If(self.i.valid):
            m.d.sync += self._part.eq(Mux(ends, 0, self._part + 1))
        return ends

    def _take_checksum(self, m: Module) -> Value:
        """Have a section's checksum compared; true in the cycle of its beat."""
        m.d.comb += [self.i.ready.eq(1), self._checksum.check.eq(self.i.valid)]
        return self.i.valid

    def _stop_on_error(self, m: Module) -> None:
        # Finding it takes a cycle by itself.
        m.d.sync += self._noticed.eq(Mux(self.stop != Error.NONE, self.stop, self._found))
        m.d.sync += self._misplaced.eq(self._take & (self.i.payload.last != self._expect_last))
        m.d.comb += self._right.eq((self._noticed == Error.NONE) & ~self._misplaced)
        with m.If(~self._failed & ~self._right):
            m.d.sync += [self._failed.eq(1), self._in_words.eq(0)]
            m.d.sync += self.error.eq(Mux(self._noticed != Error.NONE, self._noticed, Error.LENGTH))


def _within(difference: Value, limit: int) -> Value:
    """Whether a signed difference is in 0..limit - 1."""
    return (difference >= 0) & (difference < limit)
