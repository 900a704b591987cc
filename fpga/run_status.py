"""How far a board's engine is."""

from dataclasses import dataclass

__all__ = ["RunStatus"]


@dataclass(frozen=True)
class RunStatus:
    """What a board says of its run.

    Parameters
    ----------
    running : bool
        Whether it goes on.
    word : int
        The engine's status word.
    cycles : int
        Clock cycles so far; of a run that is over, all of them.
    outputs : int
        Output beats that came.
    damaged : int
        Frames from the host that were damaged, since the board was switched on, modulo 2^8.
    """

    running: bool
    word: int
    cycles: int
    outputs: int
    damaged: int
