"""The words of a WRITE on their way into a memory."""

from typing import Any

from amaranth import Cat, Module, Signal, Value

from .commands import Commands
from .protocol import Memory

__all__ = ["WriteWords"]


class WriteWords:
    """Collects bytes, and writes each word that is complete; a part of the responder.

    Parameters
    ----------
    commands : Commands
        Signals to the memories.
    widths : Commands
        Their signature.

    Attributes
    ----------
    begin : Signal
        The arguments are complete, and words follow.
    take : Signal
        A byte is at hand.
    fits : Signal
        All words so far, with the byte at hand, are whole and have a place.
    """

    def __init__(self, commands: Any, widths: Commands) -> None:
        self._commands, self._widths = commands, widths
        self._bytes = len(commands.word) // 8
        self._count = Signal(range(self._bytes), name="write_count")
        self.begin = Signal(name="write_begin")
        self.take = Signal(name="write_take")
        self.fits = Signal(name="write_fits")

    def connect(self, m: Module, arguments: Signal, byte: Value) -> None:
        """Describe it; ``arguments`` are those of the request, ``byte`` is the one at hand."""
        commands, widths, count = self._commands, self._widths, self._count
        target = arguments[-32:-24]
        most = max(widths.memory.weights, widths.memory.activations)
        address = Signal(range(2 * most), name="write_address")
        collected = Signal(len(commands.word) - 8, name="write_collected")
        writes, overrun = Signal(name="write_word"), Signal(name="write_overrun")
        ends, inside = Signal(name="write_ends"), Signal(name="write_inside")

        for memory, width, depth in (
            (Memory.WEIGHTS, widths.weight_width, widths.memory.weights),
            (Memory.ACTIVATIONS, widths.activation_width, widths.memory.activations),
        ):
            with m.If(target == memory):
                m.d.comb += [ends.eq(count == width // 8 - 1), inside.eq(address < depth)]
        m.d.comb += [
            commands.word.eq(Cat(collected, byte)),
            commands.write_address.eq(address),
            writes.eq(self.take & ends & inside & ~overrun),
            commands.weight.eq(writes & (target == Memory.WEIGHTS)),
            commands.activation.eq(writes & (target == Memory.ACTIVATIONS)),
            self.fits.eq(ends & inside & ~overrun),
        ]
        with m.If(self.take):
            m.d.sync += [collected.eq(Cat(collected, byte) >> 8), count.eq(count + 1)]
            m.d.sync += overrun.eq(overrun | (ends & ~inside))
            with m.If(ends):
                m.d.sync += [count.eq(0), address.eq(address + 1)]
        with m.If(self.begin):
            m.d.sync += [count.eq(0), address.eq(arguments[-24:])]
            m.d.sync += overrun.eq(arguments[-24:] >= most)
