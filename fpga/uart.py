"""Bytes on two wires: 8 bits, no parity, one stop bit."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]

_FRAME_BITS = 10  # start, eight of data, stop


class UartReceiver(wiring.Component):
    """Takes bytes from a line and offers each for one cycle.

    Whoever reads takes it then or loses it; a byte whose stop bit is missing is dropped. Each bit
    is sampled in its middle, so the two clocks may differ by 4 % in all.

    Parameters
    ----------
    divisor : int
        Cycles of a bit, at least 4.

    Members
    -------
    rx : :py:`In(1)`
        The line, which rests at 1 and may change at any time.
    o : :py:`Out(8)`
        A byte.
    o_valid : :py:`Out(1)`
        Whether there is one, for one cycle.

    Raises
    ------
    :exc:`ValueError`
        If the divisor is below 4.
    """

    rx: Signal
    o: Signal
    o_valid: Signal

    def __init__(self, *, divisor: int) -> None:
        self.divisor = _checked(divisor)
        super().__init__({"rx": In(1), "o": Out(8), "o_valid": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(self.divisor))
        bits = Signal(_FRAME_BITS - 1)  # those after the start bit; the stop bit comes last
        left = Signal(range(_FRAME_BITS + 1))

        m.d.sync += self.o_valid.eq(0)
        m.d.comb += self.o.eq(bits[:8])
        with m.If(left == 0):
            with m.If(~line):
                m.d.sync += [left.eq(_FRAME_BITS), timer.eq(self.divisor // 2 - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1)]
            m.d.sync += bits.eq(Cat(bits[1:], line))
            with m.If((left == _FRAME_BITS) & line):  # a spike, no start bit
                m.d.sync += left.eq(0)
            with m.If(left == 1):
                m.d.sync += self.o_valid.eq(line)

        return m


class UartTransmitter(wiring.Component):
    """Puts bytes on a line, one after the other without a pause.

    Parameters
    ----------
    divisor : int
        Cycles of a bit, at least 4.

    Members
    -------
    i : :py:`In(stream.Signature(8))`
        Bytes.
    tx : :py:`Out(1)`
        The line; rests at 1.

    Raises
    ------
    :exc:`ValueError`
        If the divisor is below 4.
    """

    i: stream.Interface
    tx: Signal

    def __init__(self, *, divisor: int) -> None:
        self.divisor = _checked(divisor)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        bits = Signal(_FRAME_BITS, init=-1)  # what is left, the line's bit lowest
        left = Signal(range(_FRAME_BITS + 1))

        m.d.comb += self.tx.eq(bits[0])
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(left > 1):
            m.d.sync += [bits.eq(Cat(bits[1:], 1)), left.eq(left - 1), timer.eq(self.divisor - 1)]
        with m.Else():
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += left.eq(0)
            with m.If(self.i.valid):
                m.d.sync += [bits.eq(Cat(0, self.i.payload, 1)), left.eq(_FRAME_BITS)]
                m.d.sync += timer.eq(self.divisor - 1)

        return m


def _checked(divisor: int) -> int:
    if not isinstance(divisor, int) or divisor < 4:
        raise ValueError(f"divisor must be an integer of at least 4, not {divisor!r}")
    return divisor
