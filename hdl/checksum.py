"""The checksum of the weight stream's sections: beats are folded, then counted in a CRC-32."""

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..formats.beat_fold import BeatFold
from ..formats.layout import CRC_WIDTH
from .crc32 import Crc32
from .pipeline import delay

__all__ = ["Checksum"]

_GROUP = 6  # bits that one register sums: one look-up table, or two of four inputs


class Checksum(wiring.Component):
    """Compares the checksum of each section, one beat a cycle.

    Everything that comes in goes through a pipeline of registers: bits of a beat, sums of a few of
    them, the folded beat (:class:`BeatFold`). At its end stands the CRC-32, and one more register
    behind the comparison. What happens there is what would happen at once without registers, and so
    does not depend on when beats come.

    Parameters
    ----------
    width : int
        Bits of a beat.

    Attributes
    ----------
    latency : int
        Cycles from ``check`` to the result: 3, or 2 for beats that are not folded.

    Members
    -------
    data : :py:`In(width)`
        A beat.
    enable : :py:`In(1)`
        It belongs to the section.
    check : :py:`In(1)`
        It is the section's checksum, and the next section begins; wins over ``enable``.
    pending : :py:`Out(1)`
        A checksum has been given and its result not been told before this cycle.
    wrong : :py:`Out(1)`
        A checksum differs, ``latency`` cycles after it was given.
    """

    data: Signal
    enable: Signal
    check: Signal
    pending: Signal
    wrong: Signal

    def __init__(self, *, width: int) -> None:
        self.fold = BeatFold(width)
        self._stages = 2 if self.fold.words else 1
        self.latency = self._stages + 1
        super().__init__({
            "data": In(width),
            "enable": In(1),
            "check": In(1),
            "pending": Out(1),
            "wrong": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc32 = crc = Crc32(width=self.fold.width)
        m.d.comb += [
            crc.data.eq(self._folded(m)),
            crc.enable.eq(delay(m, self.enable, self._stages, name="enable", control=True)),
        ]
        # One register after the other, as for the data.
        checks: list[Value] = [self.check]
        for stage in range(self._stages):
            checks.append(delay(m, checks[-1], 1, name=f"check_{stage}", control=True))
        given = delay(m, self.data[:CRC_WIDTH], self._stages, name="given")
        differs = delay(m, given != crc.crc, 1, name="differs")
        compared = delay(m, checks[-1], 1, name="compared", control=True)
        m.d.comb += [
            crc.clear.eq(checks[-1]),
            self.pending.eq(Cat(checks[1:], compared).any()),
            self.wrong.eq(compared & differs),
        ]
        return m

    def _folded(self, m: Module) -> Value:
        """Return the beat, folded, ``_stages`` cycles later."""
        if not self.fold.words:
            return delay(m, self.data, self._stages, name="beat")
        bits = []
        for index, positions in enumerate(self.fold.sums):
            groups = [positions[i : i + _GROUP] for i in range(0, len(positions), _GROUP)]
            sums = Cat(Cat(self.data[position] for position in group).xor() for group in groups)
            # A register for each group: it also keeps synthesis from cutting the trees badly.
            bits.append(delay(m, sums, 1, name=f"groups_{index}").xor() if groups else Const(0, 1))
        return delay(m, Cat(bits), 1, name="folded")
