"""CRC-32 of a stream of wide words, one word a cycle."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Crc32"]

_POLYNOMIAL = 0xEDB88320  # of IEEE 802.3, lowest bit first


class Crc32(wiring.Component):
    """CRC-32 as in IEEE 802.3 and :func:`zlib.crc32`, over whole words.

    Each word's bytes count from its lowest bits. ``crc`` holds the checksum of all words since
    ``clear``, one cycle after the last of them was given.

    Parameters
    ----------
    width : :class:`int`
        Bits of a word, at least 32.

    Members
    -------
    clear : :py:`In(1)`
        Begin anew; wins over ``enable``.
    enable : :py:`In(1)`
        Take ``data`` in this cycle.
    data : :py:`In(width)`
        One word.
    crc : :py:`Out(32)`
        Checksum.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is below 32.

    Source
    ------
    Own derivation: the checksum is linear, so a word's effect is a parity of some of its bits for
    each bit of the result, with the old state added to the word's first 32 bits.
    """

    clear: Signal
    enable: Signal
    data: Signal
    crc: Signal

    def __init__(self, *, width: int) -> None:
        if width < 32:
            raise ValueError(f"Word width must be at least 32, not {width!r}")
        self.width = width
        super().__init__({
            "clear": In(1),
            "enable": In(1),
            "data": In(width),
            "crc": Out(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(32, init=0xFFFFFFFF)

        mixed = Signal(self.width)
        m.d.comb += mixed.eq(self.data ^ state)
        m.d.comb += self.crc.eq(~state)

        with m.If(self.clear):
            m.d.sync += state.eq(state.init)
        with m.Elif(self.enable):
            m.d.sync += state.eq(
                Cat(Cat(mixed[i] for i in bits).xor() for bits in _taps(self.width))
            )

        return m


def _taps(width: int) -> list[list[int]]:
    """Positions in the word whose parity is each bit of the next state."""
    taps: list[list[int]] = [[] for _ in range(32)]
    effect = _POLYNOMIAL  # of the word's last bit; each bit before it is shifted once more
    for position in reversed(range(width)):
        for bit in range(32):
            if effect >> bit & 1:
                taps[bit].append(position)
        effect = effect >> 1 ^ (_POLYNOMIAL if effect & 1 else 0)
    return taps
