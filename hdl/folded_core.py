"""Cores that keep activations as they are and take a slice's weights in one or more parts."""

from amaranth import Array, Cat, Module, Signal, Value, signed
from amaranth.hdl import ValueLike
from amaranth.lib import data, memory

from .core import Core, activation_write_layout
from .parameters import EngineParameters, signed_width
from .pipeline import delay

__all__ = ["BITS_OF_COUNT", "FoldedCore", "count_ones", "part_bits", "part_layout"]

BITS_OF_COUNT = 8


def part_bits(parameters: EngineParameters) -> int:
    """Bits that tell the parts of a slice."""
    return (parameters.core.fold - 1).bit_length()


def part_layout(parameters: EngineParameters) -> data.StructLayout:
    """Return what is kept of one part of a slice: its activations, and their sum if it is needed.

    The sum is what a zero-point multiplies.
    """
    numerics, width = parameters.numerics, parameters.part_width
    fields: dict = {"elements": data.ArrayLayout(signed(numerics.aligned_width), width)}
    if any(item.has_zero_point for item in parameters.layout.members):
        fields["sum"] = signed(signed_width(width * numerics.peak))
    return data.StructLayout(fields)


def count_ones(m: Module, bits: Value) -> list[Value]:
    """Count ones, ``BITS_OF_COUNT`` at a time; a cycle later."""
    counts = []
    for start in range(0, len(bits), BITS_OF_COUNT):
        own = bits[start : start + BITS_OF_COUNT]
        counts.append(delay(m, sum(own[1:], own[0]), 1, name=f"count_{start}"))
    return counts


class FoldedCore(Core):
    """:class:`Core` that keeps activations as :func:`part_layout` has them.

    Step ``t * fold + p`` is turn ``t`` of part ``p``: every part has a turn before any has the
    next. ``write.index`` is a part.

    Parameters
    ----------
    parameters : EngineParameters
        The engine's.
    """

    def __init__(self, *, parameters: EngineParameters) -> None:
        write = activation_write_layout(parameters, part_layout(parameters))
        super().__init__(parameters=parameters, write_layout=write)

    @property
    def hold_cycles(self) -> int:
        """Cycles from a step to when its slice's activations may be overwritten."""
        return 1

    def _turn_and_part(self, m: Module) -> tuple[Value, Value]:
        """Split the step."""
        fold, steps = self.parameters.core.fold, self.parameters.max_cycles
        bits = part_bits(self.parameters)
        if fold == 1 << bits:
            return self.step[bits:], self.step[:bits]
        turn, part = Signal(range(steps // fold)), Signal(range(fold))
        m.d.comb += turn.eq(Array(step // fold for step in range(steps))[self.step])
        m.d.comb += part.eq(Array(step % fold for step in range(steps))[self.step])
        return turn, part

    def _part_codes(self, m: Module, part: Value) -> data.View:
        """Return bit ``b`` of the part's codes, and then the zero-point's, in element ``b``."""
        parameters, width = self.parameters, self.parameters.part_width
        codes = Signal(data.ArrayLayout(width + 1, parameters.layout.max_code_width))
        for bit in range(parameters.layout.max_code_width):
            zero = self.zero[bit] if bit < len(self.zero) else 0
            m.d.comb += codes[bit].eq(Cat(self.codes[bit].word_select(part, width), zero))
        return codes

    def _activations(self, m: Module, slice_index: ValueLike, part: ValueLike) -> list[data.View]:
        """Return each token's part of a slice, combinationally."""
        shape, bits = part_layout(self.parameters), part_bits(self.parameters)
        depth = 1 << (bits + self.parameters.slice_address_width)
        words = []
        for token in range(self.parameters.tokens):
            store = memory.Memory(shape=shape, depth=depth, init=[])
            m.submodules[f"activations_{token}"] = store
            write, read = store.write_port(), store.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(self.write.enable),
                write.addr.eq(Cat(self.write.index[:bits], self.write.slice)),
                write.data.eq(self.write.values[token]),
                read.addr.eq(Cat(part, slice_index)),
            ]
            words.append(read.data)
        return words
