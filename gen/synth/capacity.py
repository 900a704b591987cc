"""Whether a design fits into a device."""

from .cells import Cells
from .targets import Target

__all__ = ["PARTS", "TooLargeError", "check_capacity"]

PARTS = {"luts": "LUTs", "ffs": "flip-flops", "brams": "block RAMs", "dsps": "DSP blocks"}


class TooLargeError(ValueError):
    """A design that is too large for its device.

    Parameters
    ----------
    target : Target
        The device.
    part : str
        Key of ``PARTS``: what there is too little of.
    needed, there : int
        How much of it.
    called : str, optional
        What to call it, if not as ``PARTS`` does.
    """

    def __init__(
        self, target: Target, part: str, needed: int, there: int, called: str | None = None
    ) -> None:
        super().__init__(
            f"The design is too large for {target.name}: it needs {needed:,} "
            f"{called or PARTS[part]}, "
            f"{needed - there:,} more than the {there:,} that there are"
        )
        self.part = part


def check_capacity(cells: Cells, target: Target) -> None:
    """Refuse a design that needs more than there is.

    Raises
    ------
    :exc:`TooLargeError`
        If there is too little of something; it names what exceeds the device most.
    """
    shortages = {
        part: getattr(cells, part) / max(1, getattr(target, part))
        for part in PARTS
        if getattr(cells, part) > getattr(target, part)
    }
    if shortages:
        part = max(shortages, key=lambda name: shortages[name])
        raise TooLargeError(target, part, getattr(cells, part), getattr(target, part))
