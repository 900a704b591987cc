"""Both ends of a valid/ready stream, one cycle at a time, for whichever simulator runs them.

The rules are those of Amaranth's streams: a transfer happens in a cycle in which ``valid`` and
``ready`` are both set; once set, ``valid`` and the payload hold until the transfer.
"""

import random
from collections.abc import Iterable

__all__ = ["ProtocolError", "Sink", "Source", "StallPattern"]


class ProtocolError(Exception):
    """A stream broke the rules of its handshake."""


class StallPattern:
    """Cycles in which one end of a stream holds back, at random but repeatable.

    Parameters
    ----------
    probability : float
        Chance that a cycle is stalled, 0 to below 1.
    seed : int
        Two patterns with the same seed are equal.
    """

    def __init__(self, probability: float = 0.0, seed: int = 0) -> None:
        if not 0 <= probability < 1:
            raise ValueError(f"Stall probability must be in 0..1, 1 excluded, not {probability!r}")
        self.probability = probability
        self._random = random.Random(seed)

    def stalled(self) -> bool:
        """Decide for one more cycle."""
        return self.probability > 0 and self._random.random() < self.probability


class Source:
    """Offers payloads in order.

    Each cycle: drive ``valid`` and ``payload``, then tell :meth:`observe` what ``ready`` was.

    Parameters
    ----------
    payloads : iterable of int
        What to send.
    stalls : StallPattern, optional
        Cycles in which nothing new is offered.
    """

    def __init__(self, payloads: Iterable[int], stalls: StallPattern | None = None) -> None:
        self._rest = iter(payloads)
        self._stalls = stalls or StallPattern()
        self._next: int | None = None
        self.finished = False
        self.sent = 0
        self.valid = False
        self.payload = 0
        self._offer()

    def _offer(self) -> None:
        if self._next is None:
            self._next = next(self._rest, None)
            self.finished = self._next is None
        self.valid = self._next is not None and not self._stalls.stalled()
        self.payload = self._next or 0

    def observe(self, ready: bool) -> None:
        """End the cycle."""
        if self.valid and not ready:
            return
        if self.valid:
            self.sent += 1
            self._next = None
        self._offer()


class Sink:
    """Takes payloads and checks that the stream keeps the rules.

    Each cycle: drive ``ready``, then tell :meth:`observe` what the stream showed.

    Parameters
    ----------
    stalls : StallPattern, optional
        Cycles in which nothing is taken.
    name : str
        The stream's name in messages.
    """

    def __init__(self, stalls: StallPattern | None = None, *, name: str = "o") -> None:
        self._stalls = stalls or StallPattern()
        self._name = name
        self._held: int | None = None
        self.received: list[int] = []
        self.ready = not self._stalls.stalled()

    def observe(self, valid: bool, payload: int) -> None:
        """End the cycle.

        Raises
        ------
        :exc:`ProtocolError`
            If an offer was withdrawn or changed before it was taken.
        """
        if self._held is not None and not valid:
            raise ProtocolError(f"Stream {self._name} dropped valid before the transfer")
        if self._held is not None and payload != self._held:
            raise ProtocolError(
                f"Stream {self._name} changed its payload from {self._held:#x} to {payload:#x} "
                "before the transfer"
            )
        self._held = payload if valid and not self.ready else None
        if valid and self.ready:
            self.received.append(payload)
        self.ready = not self._stalls.stalled()
