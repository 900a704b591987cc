"""CRC-32 of a stream of wide words, one word a cycle."""

import numpy as np
from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Crc32"]

_POLYNOMIAL = 0xEDB88320  # of IEEE 802.3, lowest bit first
_LEAST_SHARED = 3  # parities; fewer make the circuit no smaller


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

        taps, shared = _share(_taps(self.width), self.width)
        terms = list(mixed)
        for a, b in shared:
            term = Signal(name=f"shared_{len(terms)}")
            m.d.comb += term.eq(terms[a] ^ terms[b])
            terms.append(term)

        with m.If(self.clear):
            m.d.sync += state.eq(state.init)
        with m.Elif(self.enable):
            m.d.sync += state.eq(Cat(Cat(terms[i] for i in bits).xor() for bits in taps))

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


def _share(taps: list[list[int]], width: int) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Replace pairs of bits that several parities have by their sum, as often as it pays.

    Returns the parities and the pairs; sums of pairs count on from ``width``. The pair that most
    parities have comes first each time (Paar, "Optimized arithmetic for Reed-Solomon encoders",
    ISIT 1997): synthesis does not find these by itself.
    """
    uses = [sum(1 << row for row, bits in enumerate(taps) if i in bits) for i in range(width)]
    pairs: list[tuple[int, int]] = []
    common = np.array([[(a & b).bit_count() for b in uses] for a in uses], dtype=np.uint8)
    np.fill_diagonal(common, 0)
    while common.max() >= _LEAST_SHARED:
        a, b = map(int, np.unravel_index(common.argmax(), common.shape))
        pairs.append((a, b))
        both = uses[a] & uses[b]
        uses[a] ^= both
        uses[b] ^= both
        uses.append(both)
        common = np.pad(common, (0, 1))
        for changed in (a, b, len(uses) - 1):
            counts = [(use & uses[changed]).bit_count() for use in uses]
            common[changed] = common[:, changed] = counts
            common[changed, changed] = 0
    return [[i for i, use in enumerate(uses) if use >> row & 1] for row in range(32)], pairs
