"""The tables of activation sums: one entry of every table of a slice a cycle."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .activation_store import token_layout
from .lookup import slice_address_width, table_write_layout
from .parameters import LutParameters

__all__ = ["TableBuilder"]


class TableBuilder(wiring.Component):
    """Reads a token tile by tile and fills the tables of one tile while the other tile's are used.

    A slice takes ``beats_of_slice`` cycles and the store's latency to load, ``mu`` to sum up the
    entry of all -1, and one cycle for each entry in Gray code order, so that each differs from the
    one before by twice one activation: one adder for each table.

    Parameters
    ----------
    parameters : LutParameters
        The engine's.

    Members
    -------
    occupied : :py:`Out(1)`
        Whether any tables are being built or kept.
    token_ready, token, release
        The activation store's oldest token.
    read, read_beat, aligned, aligned_valid
        The activation store's read port.
    write : :py:`Out(table_write_layout(parameters))`
        Fills the lanes' tables.
    bank : :py:`In(1)`
        Which of the two tiles' tables is asked about.
    filled : :py:`Out(1)`
        Whether that bank's tables are complete and not yet taken.
    filled_token : :py:`Out(token_layout(parameters))`
        The token that they belong to.
    taken : :py:`In(1)`
        All of that tile's slices are under way.
    used : :py:`In(2)`
        Bit ``b``: the last look-up in bank ``b`` has been made, so it may be filled again.
    sum_slice : :py:`In(slice_address_width(parameters))`
        Slice whose activation sum is wanted.
    sum : :py:`Out(signed(slice_width))`
        The sum, combinationally.
    """

    occupied: Signal
    token_ready: Signal
    token: data.View
    release: Signal
    read: Signal
    read_beat: Signal
    aligned: data.View
    aligned_valid: Signal
    write: data.View
    bank: Signal
    filled: Signal
    filled_token: data.View
    taken: Signal
    used: Signal
    sum_slice: Signal
    sum: Signal

    def __init__(self, *, parameters: LutParameters) -> None:
        self.parameters = parameters
        aligned = data.ArrayLayout(signed(parameters.numerics.aligned_width), parameters.act_lanes)
        super().__init__({
            "occupied": Out(1),
            "token_ready": In(1),
            "token": In(token_layout(parameters)),
            "release": Out(1),
            "read": Out(1),
            "read_beat": Out(range(parameters.max_act_beats + parameters.beats_of_slice)),
            "aligned": In(aligned),
            "aligned_valid": In(1),
            "write": Out(table_write_layout(parameters)),
            "bank": In(1),
            "filled": Out(1),
            "filled_token": Out(token_layout(parameters)),
            "taken": In(1),
            "used": In(2),
            "sum_slice": In(slice_address_width(parameters)),
            "sum": Out(signed(parameters.slice_width)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        bank, slice_index = Signal(), Signal(range(parameters.layout.tile_slices))
        beat = Signal.like(self.read_beat)
        step = Signal(range(max(parameters.mu, parameters.entries)))
        address = Cat(slice_index[: slice_address_width(parameters) - 1], bank)
        start, built, begin, extend = Signal(), Signal(), Signal(), Signal()

        self._tables(m, self._elements(m), step, begin, extend)
        loaded = self._slice_sums(m, address)
        free = self._keep_banks(m, bank, start, built)
        m.d.comb += self.read_beat.eq(beat)
        m.d.comb += self.write.slice.eq(address)

        token_ends = beat >= self.token.beats
        tile_ends = token_ends | (slice_index == parameters.layout.tile_slices - 1)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.token_ready & free):
                    m.d.comb += start.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.eq(1)
                m.d.sync += [beat.eq(beat + 1), step.eq(0)]
                with m.If(self._last_read(m)):
                    m.next = "LOAD"
            with m.State("LOAD"):
                with m.If(loaded):
                    m.next = "LOWEST"
            with m.State("LOWEST"):
                m.d.comb += begin.eq(1)
                m.d.sync += step.eq(step + 1)
                with m.If(step == parameters.mu - 1):
                    m.d.sync += step.eq(0)
                    m.next = "ENTRIES"
            with m.State("ENTRIES"):
                m.d.comb += [extend.eq(1), self.write.enable.eq(1)]
                m.d.comb += self.write.entry.eq(step ^ (step >> 1))
                m.d.sync += step.eq(step + 1)
                with m.If(step == parameters.entries - 1):
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

    def _keep_banks(self, m: Module, bank: Signal, start: Value, built: Value) -> Value:
        """Follow each bank from free over being built, filled and taken to free again.

        Returns
        -------
        Value
            Whether the bank to build next is free.
        """
        free, filled = Signal(2, init=0b11), Signal(2)
        tokens = [Signal(token_layout(self.parameters), name=f"token_{b}") for b in range(2)]
        for index in range(2):
            with m.If(start & (bank == index)):
                m.d.sync += free[index].eq(0)
                m.d.sync += tokens[index].eq(self.token)
            with m.If(built & (bank == index)):
                m.d.sync += filled[index].eq(1)
            with m.If(self.taken & (self.bank == index)):
                m.d.sync += filled[index].eq(0)
            with m.If(self.used[index]):
                m.d.sync += free[index].eq(1)
        with m.If(built):
            m.d.sync += bank.eq(~bank)
        m.d.comb += self.occupied.eq(~free.all())
        m.d.comb += self.filled.eq(filled.bit_select(self.bank, 1))
        m.d.comb += self.filled_token.eq(Mux(self.bank, tokens[1], tokens[0]))
        return free.bit_select(bank, 1)

    def _last_read(self, m: Module) -> Value:
        """Count the reads of a slice; true in the cycle of its last."""
        reads = Signal(range(self.parameters.beats_of_slice))
        last = reads == self.parameters.beats_of_slice - 1
        m.d.sync += reads.eq(Mux(last, 0, reads + 1))
        return last

    def _elements(self, m: Module) -> list[Value]:
        """Activations of the slice being built, shifted in beat by beat."""
        parameters = self.parameters
        beat_width = len(Value.cast(self.aligned))
        held = Signal(parameters.beats_of_slice * beat_width, reset_less=True)
        with m.If(self.aligned_valid):
            m.d.sync += held.eq(Cat(held, self.aligned) >> beat_width)
        width = parameters.numerics.aligned_width
        padded = parameters.tables * parameters.mu
        elements: list[Value] = [
            held.word_select(index, width).as_signed() for index in range(parameters.layout.width)
        ]
        return elements + [Value.cast(0)] * (padded - len(elements))

    def _tables(
        self, m: Module, elements: list[Value], step: Value, begin: Value, extend: Value
    ) -> None:
        """Keep the running entry of each table: all signs -1 first, then Gray code order."""
        mu, entries = self.parameters.mu, self.parameters.entries
        for table in range(self.parameters.tables):
            own = elements[table * mu : (table + 1) * mu]
            entry = Signal(signed(self.parameters.entry_width), name=f"entry_{table}")
            chosen = Signal(signed(self.parameters.numerics.aligned_width), name=f"x_{table}")
            with m.If(begin), m.Switch(step):
                for index in range(mu):
                    with m.Case(index):
                        m.d.comb += chosen.eq(own[index])
            with m.If(begin):
                m.d.sync += entry.eq(Mux(step == 0, 0, entry) - chosen)

            # Going from entry n to n + 1 flips the lowest bit that is 0 in n.
            up = Signal(name=f"up_{table}")
            with m.If(extend):
                for index in range((entries - 1).bit_length()):
                    with m.If(step[: index + 1] == (1 << index) - 1):
                        m.d.comb += chosen.eq(own[index])
                        if index + 1 < len(step):
                            m.d.comb += up.eq(~step[index + 1])
                        else:
                            m.d.comb += up.eq(1)
                m.d.sync += entry.eq(Mux(up, entry + (chosen << 1), entry - (chosen << 1)))
            m.d.comb += self.write.values[table].eq(entry)

    def _slice_sums(self, m: Module, address: Value) -> Value:
        """Keep the sum of each slice's activations, for both tiles.

        Returns
        -------
        Value
            Whether the last of the slice's activations is at hand.
        """
        width = slice_address_width(self.parameters)
        shape = signed(self.parameters.slice_width)
        m.submodules.sums = store = memory.Memory(shape=shape, depth=1 << width, init=[])
        write, read = store.write_port(), store.read_port(domain="comb")
        count, last = Signal(range(self.parameters.beats_of_slice)), Signal()
        partial, total = Signal(shape, reset_less=True), Signal(shape)
        lanes = range(self.parameters.act_lanes)
        beat_sum = sum((self.aligned[lane] for lane in lanes[1:]), self.aligned[0])

        m.d.comb += total.eq(Mux(count == 0, 0, partial) + beat_sum)
        m.d.comb += last.eq(self.aligned_valid & (count == self.parameters.beats_of_slice - 1))
        with m.If(self.aligned_valid):
            m.d.sync += partial.eq(total)
            m.d.sync += count.eq(Mux(last, 0, count + 1))
        m.d.comb += [
            write.addr.eq(address),
            write.data.eq(total),
            write.en.eq(last),
            read.addr.eq(self.sum_slice),
            self.sum.eq(read.data),
        ]
        return last
