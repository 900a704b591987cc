"""The tables of activation sums: one entry of every table of a slice a cycle."""

from amaranth import Module, Mux, Signal, Value, signed

from .core import activation_write_layout
from .lookup import entries_layout, lut_options
from .parameters import EngineParameters
from .tile_builder import TileBuilder

__all__ = ["TableBuilder"]


class TableBuilder(TileBuilder):
    """:class:`TileBuilder` that writes tables.

    A slice takes ``mu`` cycles to sum up the entry of all -1, and one for each entry in Gray code
    order, so that each differs from the one before by twice one activation: one adder a table.

    Parameters
    ----------
    parameters : EngineParameters
        A LUT engine's.
    """

    def __init__(self, *, parameters: EngineParameters) -> None:
        write = activation_write_layout(parameters, entries_layout(parameters))
        super().__init__(parameters=parameters, write_layout=write)

    def _write(self, m: Module, held: list[list[Value]], writing: Value) -> Value:
        options, numerics = lut_options(self.parameters), self.parameters.numerics
        mu, entries = options.mu, options.entries
        step = Signal(range(max(mu, entries)))
        extending, begin, extend, written = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            begin.eq(writing & ~extending),
            extend.eq(writing & extending),
            written.eq(extending & (step == entries - 1)),
            self.write.enable.eq(extend),
            self.write.index.eq(step ^ (step >> 1)),
        ]
        with m.If(writing):
            m.d.sync += step.eq(step + 1)
        with m.If((begin & (step == mu - 1)) | (extend & written)):
            m.d.sync += [step.eq(0), extending.eq(~extending)]

        for token, elements in enumerate(held):
            for table in range(options.tables(self.parameters.layout.width)):
                own = elements[table * mu : (table + 1) * mu]
                own += [Value.cast(0)] * (mu - len(own))
                name = f"{token}_{table}"
                chosen = Signal(signed(numerics.aligned_width), name=f"x_{name}")
                up = self._choose(m, own, chosen, step, begin, extend, name)
                entry = Signal(self.write.values[token][table].shape(), name=f"entry_{name}")
                with m.If(begin):
                    m.d.sync += entry.eq(Mux(step == 0, 0, entry) - chosen)
                with m.If(extend):
                    m.d.sync += entry.eq(Mux(up, entry + (chosen << 1), entry - (chosen << 1)))
                m.d.comb += self.write.values[token][table].eq(entry)
        return written

    def _choose(
        self,
        m: Module,
        own: list[Value],
        chosen: Signal,
        step: Signal,
        begin: Value,
        extend: Value,
        name: str,
    ) -> Value:
        """Choose the activation that the entry changes by; return whether it goes up."""
        options = lut_options(self.parameters)
        up = Signal(name=f"up_{name}")
        with m.If(begin), m.Switch(step):
            for index in range(options.mu):
                with m.Case(index):
                    m.d.comb += chosen.eq(own[index])
        with m.If(extend):
            # Going from entry n to n + 1 flips the lowest bit that is 0 in n.
            for index in range((options.entries - 1).bit_length()):
                with m.If(step[: index + 1] == (1 << index) - 1):
                    m.d.comb += chosen.eq(own[index])
                    m.d.comb += up.eq(~step[index + 1] if index + 1 < len(step) else 1)
        return up
