"""The activations of a tile as they are: one part of a slice a cycle."""

from amaranth import Cat, Module, Mux, Signal, Value

from .core import activation_write_layout
from .folded_core import part_layout
from .parameters import EngineParameters
from .tile_builder import TileBuilder

__all__ = ["ActivationLoader"]


class ActivationLoader(TileBuilder):
    """:class:`TileBuilder` that writes activations and what sums of them the core needs.

    A slice takes one cycle for each of its parts.

    Parameters
    ----------
    parameters : EngineParameters
        That of an engine whose core is a :class:`FoldedCore`.
    """

    def __init__(self, *, parameters: EngineParameters) -> None:
        write = activation_write_layout(parameters, part_layout(parameters))
        super().__init__(parameters=parameters, write_layout=write)

    def _write(self, m: Module, held: list[list[Value]], writing: Value) -> Value:
        fold, width = self.parameters.core.fold, self.parameters.part_width
        part = Signal(range(fold))
        written = part == fold - 1
        m.d.comb += [self.write.enable.eq(writing), self.write.index.eq(part)]
        with m.If(writing):
            m.d.sync += part.eq(Mux(written, 0, part + 1))

        for token, elements in enumerate(held):
            values = self.write.values[token]
            with m.Switch(part):
                for index in range(fold):
                    with m.Case(index):
                        own = elements[index * width : (index + 1) * width]
                        m.d.comb += Value.cast(values.elements).eq(Cat(own))
            if "sum" in values.shape().members:
                m.d.comb += values.sum.eq(
                    self
                    ._part_sums(m, token)
                    .word_select(part, values.sum.shape().width)
                    .as_signed()
                )
        return written

    def _part_sums(self, m: Module, token: int) -> Signal:
        """Add up each part's activations as they come; all parts' sums, the first lowest."""
        parameters = self.parameters
        beats = parameters.part_width // parameters.act_lanes
        shape = part_layout(parameters)["sum"].shape
        beat = Signal(range(beats), name=f"part_beat_{token}")
        partial = Signal(shape, name=f"part_partial_{token}", reset_less=True)
        total = Signal(shape, name=f"part_total_{token}")
        sums = Signal(parameters.core.fold * len(total), name=f"part_sums_{token}", reset_less=True)

        lanes = [self.aligned[token][lane] for lane in range(parameters.act_lanes)]
        m.d.comb += total.eq(Mux(beat == 0, 0, partial) + sum(lanes[1:], lanes[0]))
        with m.If(self.aligned_valid):
            m.d.sync += partial.eq(total)
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
            with m.If(beat == beats - 1):
                m.d.sync += sums.eq(Cat(sums, total) >> len(total))
        return sums
