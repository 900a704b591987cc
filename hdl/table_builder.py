"""The tables of activation sums: one entry of every table of a slice a cycle."""

from amaranth import Module, Mux, Signal, Value

from .choose import choose_by_bit
from .core import activation_write_layout
from .lookup import entries_layout, entry_offset, lut_options
from .parameters import EngineParameters
from .tile_builder import TileBuilder

__all__ = ["TableBuilder"]


class TableBuilder(TileBuilder):
    """:class:`TileBuilder` that writes tables.

    A slice takes one cycle for each entry in Gray code order, so that each differs from the one
    before by one activation: one adder a table. The first is the empty sum. That of a half table,
    all signs -1, takes ``mu`` cycles more, and one sign makes a difference of twice an activation.

    Parameters
    ----------
    parameters : EngineParameters
        A LUT engine's.
    """

    def __init__(self, *, parameters: EngineParameters) -> None:
        write = activation_write_layout(parameters, entries_layout(parameters))
        super().__init__(parameters=parameters, write_layout=write)

    def _write(self, m: Module, held: list[list[Value]], writing: Value) -> Value:
        options = lut_options(self.parameters)
        mu, entries = options.mu, options.entries
        step = Signal(range(max(mu, entries)))
        begin, written, restart = Signal(), Signal(), Signal()
        # What the step does, known a cycle ahead. To begin a half table takes off each activation,
        # whatever `down` and `last` say then.
        chosen, down, last = Signal(mu, init=1), Signal(), Signal()
        following = (step + 1)[: len(step)]
        next_chosen, next_down = self._change(m, following, entries)
        m.d.comb += [
            self.write.enable.eq(writing & ~begin),
            self.write.index.eq(step ^ (step >> 1)),
            written.eq(self.write.enable & last),
            restart.eq(written),
        ]
        with m.If(writing):
            m.d.sync += [
                step.eq(following),
                chosen.eq(Mux(begin, chosen << 1, next_chosen)),
                down.eq(next_down),
                last.eq(following == entries - 1),
            ]
        if options.is_half:
            begun = Signal()
            m.d.comb += begin.eq(writing & ~begun)
            with m.If(begin & (step == mu - 1)):
                m.d.comb += restart.eq(1)
                m.d.sync += begun.eq(1)
            with m.If(written):
                m.d.sync += begun.eq(0)
        with m.If(restart):
            m.d.sync += [step.eq(0), chosen.eq(1), down.eq(0), last.eq(0)]

        for token, elements in enumerate(held):
            for table in range(options.tables(self.parameters.layout.width)):
                own = elements[table * mu : (table + 1) * mu]
                x = choose_by_bit(own, chosen[: len(own)]).as_signed()
                if options.is_half:
                    x = Mux(begin, x, x << 1)
                entry = self._entry(m, x, begin | down, writing, written, f"{token}_{table}")
                m.d.comb += self.write.values[token][table].eq(entry)
        return written

    def _change(self, m: Module, step: Value, entries: int) -> tuple[Value, Value]:
        """Tell which activation makes the next entry, one-hot, and whether it is taken off.

        Going from entry n to n + 1 flips the lowest bit that is 0 in n, down if the next is 1.
        """
        bits = entries.bit_length() - 1
        chosen = Signal(lut_options(self.parameters).mu)
        down = Signal()
        for index in reversed(range(bits)):
            with m.If(~step[index]):
                m.d.comb += chosen.eq(1 << index)
                m.d.comb += down.eq(step[index + 1] if index + 1 < bits else 0)
        return chosen, down

    def _entry(
        self, m: Module, x: Value, down: Value, writing: Value, written: Value, name: str
    ) -> Value:
        """Return one table's entry of the moment, which changes by ``x`` while writing."""
        shape = entries_layout(self.parameters).elem_shape
        entry = Signal(shape, name=f"entry_{name}", init=entry_offset(self.parameters))
        with m.If(writing):
            # One adder: to take off is to add the complement and the carry.
            m.d.sync += entry.eq(entry + Mux(down, ~x, x) + down)
        with m.If(written):
            m.d.sync += entry.eq(entry.init)
        return entry
