"""What every kind of engine does to hand its lanes the activations of one tile after another."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .activation_store import token_layout
from .parameters import EngineParameters
from .pipeline import delay, registered_sum, sum_latency

__all__ = ["TileBuilder"]


class TileBuilder(wiring.Component):
    """Reads vectors tile by tile and writes one tile for the lanes while they use the other.

    A slice takes ``beats_of_slice`` cycles and the store's latency to load, then as many as the
    kind takes to write it (:meth:`_write`), and one to go on. All tokens are served side by side.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.
    write_layout : data.StructLayout
        The core's.

    Members
    -------
    occupied : :py:`Out(1)`
        Whether any tile is being written or kept.
    working : :py:`Out(1)`
        Whether one is being written.
    token_ready : :py:`In(1)`
        The activation stores have a vector for each token.
    tokens : :py:`In(data.ArrayLayout(token_layout(parameters), tokens))`
        What is known of them; they have equally many beats, or the layer will be refused.
    release : :py:`Out(1)`
        They have been read.
    read, read_beat, aligned, aligned_valid
        The activation stores' read ports; ``aligned`` has an element a token.
    write : :py:`Out(write_layout)`
        What the lanes' cores are to keep.
    filled : :py:`Out(2)`
        Bit ``b``: bank ``b`` holds a whole tile that some lane still needs.
    kept_tokens : :py:`Out(data.ArrayLayout(data.ArrayLayout(token_layout, tokens), 2))`
        Whose tile is in each bank.
    finished : :py:`In(2)`
        Bit ``b``: no lane needs bank ``b`` any more, so it may be written again.
    """

    occupied: Signal
    working: Signal
    token_ready: Signal
    tokens: data.View
    release: Signal
    read: Signal
    read_beat: Signal
    aligned: data.View
    aligned_valid: Signal
    write: data.View
    filled: Signal
    kept_tokens: data.View
    finished: Signal

    def __init__(self, *, parameters: EngineParameters, write_layout: data.StructLayout) -> None:
        self.parameters = parameters
        tokens = data.ArrayLayout(token_layout(parameters), parameters.tokens)
        aligned = data.ArrayLayout(signed(parameters.numerics.aligned_width), parameters.act_lanes)
        super().__init__({
            "occupied": Out(1),
            "working": Out(1),
            "token_ready": In(1),
            "tokens": In(tokens),
            "release": Out(1),
            "read": Out(1),
            "read_beat": Out(range(parameters.max_act_beats + parameters.beats_of_slice)),
            "aligned": In(data.ArrayLayout(aligned, parameters.tokens)),
            "aligned_valid": In(1),
            "write": Out(write_layout),
            "filled": Out(2),
            "kept_tokens": Out(data.ArrayLayout(tokens, 2)),
            "finished": In(2),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        bank, slice_index = Signal(), Signal(range(parameters.layout.tile_slices))
        beat = Signal.like(self.read_beat)
        start, built, writing = Signal(), Signal(), Signal()
        address = Cat(slice_index[: parameters.slice_address_width - 1], bank)

        held = [self._held(m, token) for token in range(parameters.tokens)]
        loaded = self._slice_sums(m)
        written = self._write(m, held, writing)
        free = self._keep_banks(m, bank, start, built)
        m.d.comb += self.working.eq(1)
        m.d.comb += self.read_beat.eq(beat)
        m.d.comb += self.write.slice.eq(address)

        # Looked at cycles after the last read only, so that they may be known late.
        token_ends, tile_ends = Signal(), Signal()
        last_slice = slice_index == parameters.layout.tile_slices - 1
        m.d.sync += token_ends.eq(beat >= self.tokens[0].beats)
        m.d.sync += tile_ends.eq((beat >= self.tokens[0].beats) | last_slice)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.working.eq(0)
                with m.If(self.token_ready & free):
                    m.d.comb += start.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.eq(1)
                m.d.sync += beat.eq(beat + 1)
                with m.If(self._last_read(m)):
                    m.next = "LOAD"
            with m.State("LOAD"):
                with m.If(loaded):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += writing.eq(1)
                with m.If(written):
                    m.next = "SLICE"
            with m.State("SLICE"):
                m.d.comb += [built.eq(tile_ends), self.release.eq(token_ends)]
                m.d.sync += slice_index.eq(Mux(tile_ends, 0, slice_index + 1))
                m.next = "READ"
                with m.If(tile_ends):
                    m.next = "IDLE"
                with m.If(token_ends):
                    m.d.sync += beat.eq(0)

        return m

    def _write(self, m: Module, held: list[list[Value]], writing: Value) -> Value:
        """Write the slice at hand while ``writing`` is set; what belongs to the kind of core.

        Sets ``self.write.enable``, ``index`` and ``values``.

        Parameters
        ----------
        m : Module
            Receives the logic.
        held : list of lists of Value
            Activations of the slice, signed, for each token.
        writing : Value
            Whether it is time; set until the cycle after the returned value is.

        Returns
        -------
        Value
            Whether this is the last cycle of writing the slice.
        """
        raise NotImplementedError

    def _keep_banks(self, m: Module, bank: Signal, start: Value, built: Value) -> Value:
        """Follow each bank from free over being written and filled to free again.

        Returns
        -------
        Value
            Whether the bank to write next is free; both, where there is one in truth.
        """
        free = Signal(2, init=0b11)
        for index in range(2):
            with m.If(start & (bank == index)):
                m.d.sync += free[index].eq(0)
                m.d.sync += self.kept_tokens[index].eq(self.tokens)
            with m.If(built & (bank == index)):
                m.d.sync += self.filled[index].eq(1)
            with m.If(self.finished[index]):
                m.d.sync += [free[index].eq(1), self.filled[index].eq(0)]
        with m.If(built):
            m.d.sync += bank.eq(~bank)
        m.d.comb += self.occupied.eq(~free.all())
        return free.bit_select(bank, 1) if self.parameters.core.banks == 2 else free.all()

    def _last_read(self, m: Module) -> Value:
        """Count the reads of a slice; true in the cycle of its last."""
        reads = Signal(range(self.parameters.beats_of_slice))
        last = reads == self.parameters.beats_of_slice - 1
        m.d.sync += reads.eq(Mux(last, 0, reads + 1))
        return last

    def _held(self, m: Module, token: int) -> list[Value]:
        """Keep a token's activations of the slice at hand, shifted in beat by beat."""
        parameters = self.parameters
        beat = Value.cast(self.aligned[token])
        held = Signal(parameters.beats_of_slice * len(beat), name=f"held_{token}", reset_less=True)
        with m.If(self.aligned_valid):
            m.d.sync += held.eq(Cat(held, beat) >> len(beat))
        width = parameters.numerics.aligned_width
        return [
            held.word_select(index, width).as_signed() for index in range(parameters.layout.width)
        ]

    def _slice_sums(self, m: Module) -> Value:
        """Count a slice's beats; where cores need it, write the sum of its activations.

        Returns
        -------
        Value
            Whether the last of the slice's activations is at hand.
        """
        parameters = self.parameters
        count, last = Signal(range(parameters.beats_of_slice)), Signal()
        m.d.comb += last.eq(self.aligned_valid & (count == parameters.beats_of_slice - 1))
        with m.If(self.aligned_valid):
            m.d.sync += count.eq(Mux(last, 0, count + 1))
        if not parameters.core.needs_slice_sums(parameters.layout.members):
            return last
        # In two cycles at most: the slice's writing takes one at least, and so does going on.
        depth = (parameters.act_lanes - 1).bit_length()
        levels = max(parameters.adder_levels, -(-depth // 2))
        cycles = sum_latency(parameters.act_lanes, levels=levels)
        m.d.comb += self.write.enable_sum.eq(delay(m, last, cycles, name="last", control=True))
        first = delay(m, count == 0, cycles, name="first_sum")
        come = delay(m, self.aligned_valid, cycles, name="come", control=True)
        for token in range(parameters.tokens):
            shape = signed(parameters.slice_width)
            partial = Signal(shape, name=f"partial_{token}", reset_less=True)
            elements = [self.aligned[token][lane] for lane in range(parameters.act_lanes)]
            beat = registered_sum(m, elements, levels=levels, name=f"beat_sum_{token}")
            total = Mux(first, 0, partial) + beat
            m.d.comb += self.write.sum[token].eq(total)
            with m.If(come):
                m.d.sync += partial.eq(total)
        return last
