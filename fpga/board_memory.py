"""What a board keeps of a layer, its activations and its outputs."""

from dataclasses import dataclass

__all__ = ["BoardMemory"]


@dataclass(frozen=True, kw_only=True)
class BoardMemory:
    """Words of each of a board's memories.

    Parameters
    ----------
    weights : int
        Beats of the weight stream.
    activations : int
        Beats of the activation stream.
    outputs : int
        Beats of the output stream.

    Raises
    ------
    :exc:`ValueError`
        If a number is not in 1..2^24.
    """

    weights: int
    activations: int
    outputs: int

    def __post_init__(self) -> None:
        for name in ("weights", "activations", "outputs"):
            words = getattr(self, name)
            if not isinstance(words, int) or not 1 <= words <= 1 << 24:
                raise ValueError(f"memory.{name} must be an integer in 1..2^24, not {words!r}")
