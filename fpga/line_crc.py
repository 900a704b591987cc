"""CRC-32 of bytes that come as slowly as a serial line brings them."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LineCrc"]

_POLYNOMIAL = 0xEDB88320  # of IEEE 802.3, lowest bit first
_RESIDUE = 0xDEBB20E3  # the state after any message with its own checksum behind it


class LineCrc(wiring.Component):
    """CRC-32 as :func:`zlib.crc32`, a bit a cycle.

    A fifth of the logic of a byte a cycle, which no line is fast enough for: the small boards have
    little to spare.

    Members
    -------
    clear : :py:`In(1)`
        Begin anew.
    enable : :py:`In(1)`
        Take ``data`` in this cycle, if not ``busy``.
    data : :py:`In(8)`
        A byte.
    busy : :py:`Out(1)`
        The last byte is being taken in, for eight cycles.
    crc : :py:`Out(32)`
        Checksum, unless busy.
    match : :py:`Out(1)`
        The last four bytes were the checksum of those before, unless busy.
    """

    clear: Signal
    enable: Signal
    data: Signal
    busy: Signal
    crc: Signal
    match: Signal

    def __init__(self) -> None:
        super().__init__({
            "clear": In(1),
            "enable": In(1),
            "data": In(8),
            "busy": Out(1),
            "crc": Out(32),
            "match": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(32, init=0xFFFFFFFF)
        rest, left = Signal(8), Signal(range(9))

        m.d.comb += [
            self.busy.eq(left != 0),
            self.crc.eq(~state),
            self.match.eq(state == _RESIDUE),
        ]
        with m.If(self.clear):
            m.d.sync += [state.eq(state.init), left.eq(0)]
        with m.Elif(self.busy):
            odd = state[0] ^ rest[0]
            m.d.sync += state.eq((state >> 1) ^ Mux(odd, _POLYNOMIAL, 0))
            m.d.sync += [rest.eq(Cat(rest[1:], 0)), left.eq(left - 1)]
        with m.Elif(self.enable):
            m.d.sync += [rest.eq(self.data), left.eq(8)]

        return m
